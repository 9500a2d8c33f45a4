"""The list of jobs: filters, the queue, pages."""

from selenium.webdriver import Chrome
from selenium.webdriver.support.select import Select
from sqlalchemy import text

from core.db import job_claims, slots
from core.domain.ids import new_id
from core.domain.states import Phase
from tests.dashboard.page import assert_no_complaints, click, find, read_text, read_texts, until, until_shown
from tests.dashboard.studio import settle, type_into
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

NO_BASE = "This worker has no base model <b>x</b>."


def list_names(browser: Chrome) -> list[str]:
    """At one moment: the rows are replaced when something changes."""
    script = "return [...document.querySelectorAll('#rows tbody a')].map((link) => link.textContent)"
    found: list[str] = browser.execute_script(script)
    return found


def test_it_is_filtered_by_words_and_state_and_stays_so(visitor: Chrome, running_api: RunningApi) -> None:
    done = ScriptedJob(running_api, name="fox", trigger="zibble")
    done.run_to_the_end()
    ScriptedJob(running_api, name="fox cub")
    ScriptedJob(running_api, name="owl_100%")
    visitor.get(f"{running_api.url}/ui/jobs")
    until(visitor, lambda: list_names(visitor) == ["owl_100%", "fox cub", "fox"])
    search = find(visitor, "input[name=text]")
    for words, names in (
        ("FOX", ["fox cub", "fox"]),
        ("zibble", ["fox"]),
        ("_100%", ["owl_100%"]),
        (done.id[-8:], ["fox"]),
    ):
        type_into(search, words)
        until(visitor, lambda names=names: list_names(visitor) == names)
    type_into(search, "fox")
    Select(find(visitor, "select[name=status]")).select_by_value("queued")
    until(visitor, lambda: list_names(visitor) == ["fox cub"])
    ScriptedJob(running_api, name="another fox")
    until(visitor, lambda: list_names(visitor) == ["another fox", "fox cub"])
    assert visitor.current_url.endswith("/ui/jobs?text=fox&status=queued")
    visitor.refresh()
    assert list_names(visitor) == ["another fox", "fox cub"]
    type_into(find(visitor, "input[name=text]"), "nothing like it")
    until_shown(visitor, "#rows", "No job matches")
    click(visitor, "#rows a")
    until(visitor, lambda: len(list_names(visitor)) == 4)
    assert_no_complaints(visitor)


def test_a_waiting_job_says_its_place_and_why_it_waits(visitor: Chrome, running_api: RunningApi) -> None:
    first = ScriptedJob(running_api, name="fox")
    second = ScriptedJob(running_api, name="fox")
    first.start()
    first.write(job_claims.defer, first.claim, NO_BASE)
    visitor.get(f"{running_api.url}/ui/jobs")
    until_shown(visitor, "tbody tr", NO_BASE)
    rows = read_texts(visitor, "tbody tr")
    assert second.id[-8:] in rows[0] and "place 1" in rows[0]
    assert first.id[-8:] in rows[1] and "place 2" in rows[1]
    visitor.get(f"{running_api.url}/ui/jobs/{first.id}")
    until_shown(visitor, "#waits", NO_BASE)
    assert "1 of your jobs is ahead" in read_text(visitor, "#waits")


def test_a_filtered_list_is_paged(visitor: Chrome, running_api: RunningApi) -> None:
    """The address names its filters in another order than the form."""
    for number in range(27):
        ScriptedJob(running_api, name=f"fox {number}")
    visitor.get(f"{running_api.url}/ui/jobs?status=queued&text=fox")
    until(visitor, lambda: len(list_names(visitor)) == 25)
    click(visitor, "a[rel=next]")
    until(visitor, lambda: len(list_names(visitor)) == 2)
    settle(visitor)
    assert "after=" in visitor.current_url and len(list_names(visitor)) == 2


def test_five_thousand_jobs_are_paged_and_searched(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api, name="oldest needle")
    job.run_to_the_end()
    with running_api.sessions.begin() as session:
        query = (
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'jobs' AND is_generated = 'NEVER'"
        )
        columns = [row[0] for row in session.execute(text(query)) if row[0] not in ("id", "spec", "plan")]
        chosen = ", ".join(columns)
        session.execute(
            text(
                f"INSERT INTO jobs (id, spec, plan, {chosen}) SELECT new.id, "
                "jsonb_set(spec, '{name}', to_jsonb('fox ' || new.number)), "
                f"jsonb_set(plan, '{{name}}', to_jsonb('fox ' || new.number)), {chosen} "
                "FROM jobs, unnest(CAST(:ids AS text[])) WITH ORDINALITY AS new(id, number) WHERE jobs.id = :job"
            ),
            {"ids": [new_id("job") for _ in range(5000)], "job": job.id},
        )
    visitor.get(f"{running_api.url}/ui/jobs")
    until(visitor, lambda: len(list_names(visitor)) == 25)
    seen = list_names(visitor)
    click(visitor, "a[rel=next]")
    until(visitor, lambda: len(list_names(visitor)) == 25 and list_names(visitor)[0] not in seen)
    type_into(find(visitor, "input[name=text]"), "needle")
    until(visitor, lambda: list_names(visitor) == ["oldest needle"])
    until(visitor, lambda: "after=" not in visitor.current_url)


def test_badges_say_the_word_that_the_filter_has(visitor: Chrome, running_api: RunningApi) -> None:
    for phase in (Phase.CACHING, Phase.SAMPLING):
        job = ScriptedJob(running_api, name=f"fox {phase}")
        job.start()
        job.enter(phase)
        job.write(slots.release, job.id)  # so that the next one can start
    visitor.get(f"{running_api.url}/ui/jobs")
    Select(find(visitor, "select[name=status]")).select_by_visible_text("running")
    until(visitor, lambda: read_texts(visitor, "tbody .state") == ["running · sampling", "running · caching"])
    visitor.get(f"{running_api.url}/ui")
    until(visitor, lambda: set(read_texts(visitor, "#current .state")) == {"running · sampling", "running · caching"})
    assert_no_complaints(visitor)
