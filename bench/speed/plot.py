"""The phases of each kind of job as bars, in SVG."""

from collections.abc import Mapping
from html import escape

WIDTH, LEFT, ROW, BAR = 860, 190, 44, 26
COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f")
FONT = 'font-family="sans-serif" font-size="13"'


def draw_phases(jobs: Mapping[str, Mapping[str, float]]) -> str:
    """``jobs``: seconds by phase for each; a bar for each job, as long as it took, with its phases in order."""
    names = list(dict.fromkeys(name for phases in jobs.values() for name in phases))
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    scale = (WIDTH - LEFT - 70) / max(sum(phases.values()) for phases in jobs.values())
    height = ROW * len(jobs) + 24 * (-(-len(names) // 4)) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for row, (job, phases) in enumerate(jobs.items()):
        y, x = 12 + row * ROW, float(LEFT)
        parts.append(f'<text x="{LEFT - 10}" y="{y + 18}" text-anchor="end" {FONT}>{escape(job)}</text>')
        for name, seconds in phases.items():
            title = f"<title>{escape(name)}: {seconds:.2f} s</title>"
            size = f'width="{seconds * scale:.1f}" height="{BAR}"'
            parts.append(f'<rect x="{x:.1f}" y="{y}" {size} fill="{colors[name]}">{title}</rect>')
            x += seconds * scale
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 18}" {FONT}>{sum(phases.values()):.1f} s</text>')
    for index, name in enumerate(names):
        x, y = 20 + 205 * (index % 4), ROW * len(jobs) + 22 + 24 * (index // 4)
        parts.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colors[name]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 11}" {FONT}>{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])
