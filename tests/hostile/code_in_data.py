"""Finds, in a module's source, whatever could take data for code: by import, by name, and by what is left unsaid."""

import ast
from collections.abc import Iterator
from pathlib import Path

IMPORTS = {
    *("pickle", "_pickle", "cPickle", "pickle5", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"),
    *("dbm", "runpy", "code", "codeop", "xmlrpc", "multiprocessing", "pandas", "keras", "tensorflow", "h5py"),
}
"""What reads pickles or code, or passes pickles between processes."""
NAMES = {
    *("torch.load", "torch.serialization.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"),
    *("numpy.load", "numpy.loads", "numpy.lib.format.read_array", "numpy.lib.npyio.NpzFile"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "os.system", "os.popen", "zipfile.ZipFile.extractall"),
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "builtins.eval",
        "builtins.exec",
        "types.FunctionType",
        "types.CodeType",
    ),
    *("concurrent.futures.ProcessPoolExecutor", "tempfile.mktemp", "jinja2.Template", "logging.config.listen"),
}
KEYWORDS = {"allow_pickle", "trust_remote_code", "weights_only", "shell", "custom_pipeline"}
"""Of no call, whatever they say: what needs them is not called."""
METHODS = {"extractall", "from_string", "render_template_string"}


def find_faults(source: str) -> list[str]:
    """``line: what``, in the order of the lines."""
    tree = ast.parse(source)
    names = _list_names(tree)
    loaders = _list_safe_loaders(tree, names)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    safe = {id(call.func) for call in calls if _is_safe_yaml(call, names, loaders)}
    nodes = [node for node in ast.walk(tree) if id(node) not in safe]
    found = [(node.lineno, what) for node in nodes for what in _judge(node, names)]  # type: ignore[attr-defined]
    return [f"{line}: {what}" for line, what in sorted(found)]


def _list_names(tree: ast.AST) -> dict[str, str]:
    """The names that imports give -> what they stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _list_safe_loaders(tree: ast.AST, names: dict[str, str]) -> set[str | None]:
    """YAML's own, and what the module derives from it."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    derived = {node.name for node in classes if [_resolve(base, names) for base in node.bases] == ["yaml.SafeLoader"]}
    return {"yaml.SafeLoader", *derived}


def _is_safe_yaml(call: ast.Call, names: dict[str, str], loaders: set[str | None]) -> bool:
    said = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "Loader")]
    return _resolve(call.func, names) == "yaml.load" and len(said) == 1 and _resolve(said[0], names) in loaders


def _judge(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (f"import {alias.name}" for alias in node.names if _is_banned(alias.name))
        case ast.ImportFrom():
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (f"import {name}" for name in imported if _is_banned(name) or name in NAMES)
        case ast.Name() | ast.Attribute() if (name := _resolve(node, names)) in NAMES:
            yield str(name)
        case ast.Call():
            yield from _judge_call(node, names)


def _is_banned(module: str) -> bool:
    return module.partition(".")[0] in IMPORTS or module in NAMES


def _is_refusal(name: str, value: ast.expr) -> bool:
    """Without it, the library asks at a terminal."""
    return name == "trust_remote_code" and isinstance(value, ast.Constant) and value.value is False


def _judge_call(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    yield from (f"{name}=" for name, value in keywords.items() if name in KEYWORDS and not _is_refusal(name, value))
    name = _resolve(call.func, names) or ""
    receiver, _, method = name.rpartition(".")
    if method in METHODS:
        yield name
    loads = method in {"from_pretrained", "load_lora_weights"} and not receiver.endswith(("Tokenizer", "Processor"))
    if loads or (method == "download" and receiver.endswith("Pipeline")):
        said = keywords.get("use_safetensors")
        if not (isinstance(said, ast.Constant) and said.value is True):
            yield f"{name} without use_safetensors=True"
    if name == "PIL.Image.open" and "formats" not in keywords:
        yield f"{name} without formats="


def _resolve(node: ast.AST, names: dict[str, str]) -> str | None:
    """The dotted name of what is meant; of what a call or a subscript gives, its last parts."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_resolve(node.value, names) or ''}.{node.attr}"
    return None


def list_sources(root: Path, packages: tuple[str, ...]) -> list[Path]:
    return sorted(path for package in packages for path in (root / package).rglob("*.py"))
