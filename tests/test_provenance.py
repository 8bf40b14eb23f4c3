"""The code of a stage decides what re-runs: a file too few gives stale results, a file too many wastes GPU-months."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genview import made, meaning, provenance, stage

PACKAGE = Path(provenance.__file__).parent
CODE = provenance.Code()
"""Of the package as it is; a copy has its own."""


def names(*modules):
    return {Path(path).relative_to(PACKAGE).as_posix() for path in CODE.sources(*modules)}


def test_the_closure_holds_what_is_imported_at_every_depth():
    closure = names("genview.data.ingest")
    assert {"data/ingest.py", "data/images.py", "config/dataset.py", "errors.py", "__init__.py"} <= closure
    assert "config/study.py" not in closure and "provenance.py" not in closure


def test_the_closure_is_that_of_really_importing():
    code = "import sys, genview.data.ingest; print(*[m for m in sys.modules if m.split('.')[0] == 'genview'])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    found = {f"genview/{path}".removesuffix(".py").removesuffix("/__init__") for path in names("genview.data.ingest")}
    assert {path.replace("/", ".") for path in found} == set(loaded) - provenance.HARNESS


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package whose files may be changed."""
    shutil.copytree(PACKAGE, tmp_path / "genview", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "genview")
    provenance._module_file.cache_clear()
    yield tmp_path / "genview"
    provenance._module_file.cache_clear()


def test_an_import_within_any_statement_counts(copy):
    (copy / "errors.py").write_text(
        "def late():\n    import genview.tables\n"
        "class Holder:\n    from genview import atomic\n"
        "try:\n    pass\nexcept ImportError:\n    from genview.data import keys\n"
        "else:\n    import genview.data.tars\n"
        "finally:\n    import genview.data.scenes\n"
        "match 1:\n    case 2:\n        import genview.targets\n"
        "with open('x'):\n    if False:\n        pass\n    else:\n        import genview.cluster\n"
    )
    named = {"tables", "atomic", "data.keys", "data.tars", "data.scenes", "targets", "cluster"}
    assert provenance.Code().named(copy / "errors.py")[0] >= {f"genview.{name}" for name in named}


def test_a_change_in_an_imported_file_changes_the_digest_and_one_elsewhere_does_not(copy):
    before = provenance.code_digest("genview.data.ingest")
    (copy / "config/views.py").write_text("# another stage's\n")
    assert provenance.code_digest("genview.data.ingest") == before
    images = copy / "data/images.py"
    original = images.read_bytes()
    images.write_bytes(original + b"# a comment\n")
    provenance._sha256.cache_clear()
    assert provenance.code_digest("genview.data.ingest") == before
    images.write_bytes(original + b"CHANGED = 1\n")
    provenance._sha256.cache_clear()
    assert provenance.code_digest("genview.data.ingest") != before


def test_the_digest_does_not_depend_on_where_the_package_lies(copy):
    moved = provenance.code_digest("genview.data.keys")
    here = {f"genview/{path}": PACKAGE / path for path in names_in(copy, "genview.data.keys")}
    assert moved == provenance.digest({name: meaning.digest(path.read_bytes()) for name, path in here.items()})


def names_in(root, *modules):
    return {Path(path).relative_to(root).as_posix() for path in provenance.Code().sources(*modules)}


SCRIPTS = PACKAGE.parent / "workflow/scripts"


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_checks_and_commands_are_no_code_of_a_job(script):
    """A new check before the first job makes no artifact anew; of the report's code only the report is made."""
    sources = CODE.sources(str(SCRIPTS / script))
    found = {Path(path).relative_to(PACKAGE.parent).as_posix() for path in sources}
    strange = {name for name in found if name.startswith(("genview/preflight/", "genview/commands/"))}
    assert not strange and "genview/__main__.py" not in found
    assert script == "report.py" or not any(name.startswith("genview/report/") for name in found)


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"genview\.data\.nothing"):
        CODE.sources("genview.data.nothing")


def test_digests_ignore_order_of_keys_and_nothing_else():
    assert provenance.digest({"a": 1, "b": 2}) == provenance.digest({"b": 2, "a": 1})
    assert len({provenance.digest(value) for value in ({"a": 1}, {"a": "1"}, {"a": 1.5}, ["a", 1], {})}) == 5


def test_a_combined_digest_is_of_contents_in_order(tmp_path):
    for name, text in [("a", "1"), ("b", "2"), ("c", "1")]:
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert provenance.combined_file_digest([a, b]) == provenance.combined_file_digest([c, b])
    assert provenance.combined_file_digest([a, b]) != provenance.combined_file_digest([b, a])


def test_light_modules_do_not_load_torch():
    modules = "genview.parquet, genview.atomic, genview.provenance, genview.errors, genview.data.ingest, genview.stage"
    code = f"import sys, {modules}; print(*sorted({{'torch', 'datasets', 'sklearn', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"


def test_the_record_of_code_is_another_for_an_edit_and_the_same_for_a_touched_file(copy, tmp_path):
    script = tmp_path / "keys.py"
    script.write_text("call_one()\n")

    def record():
        provenance._sha256.cache_clear()
        return provenance.record(tmp_path / "code", provenance.Code().files(str(script), "genview.data.keys"))

    before, module = record(), copy / "data/keys.py"
    os.utime(module)
    assert record() == before
    original = module.read_bytes()
    module.write_bytes(original + b"CHANGED = 1\n")
    after = record()
    assert after != before
    script.write_text("call_another()\n")
    assert record() not in (before, after)
    script.write_text("call_one()\n")
    module.write_bytes(original)
    assert record() == before, "to look at a branch and go back would re-run what it changed"


def test_a_folder_that_cannot_be_written_is_said_and_no_old_record_stands_for_new_code(tmp_path):
    (tmp_path / "code").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="code"):
        provenance.record(tmp_path / "code", provenance.Code().files("genview.data.keys"))


def test_settings_have_a_file_each_which_is_never_written_twice(tmp_path):
    first = Path(provenance.record(tmp_path, {"epochs": 2, "views": ["img"]}))
    os.utime(first, (1, 1))
    other = provenance.record(tmp_path, {"epochs": 3, "views": ["img"]})
    assert other != str(first)
    assert provenance.record(tmp_path, {"views": ["img"], "epochs": 2}) == str(first)
    assert first.stat().st_mtime == 1, "going back to settings looked at before would re-run what they had made"
    assert stage.settings(first) == {"epochs": 2, "views": ["img"]}


@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("x = f(1)  # comment\n", True),
        ("x = f(\n    1,\n)\n", True),
        ('"""What it is."""\nx = f(1)\n"""What x is."""\n', True),
        ("x = f(1.0)\n", False),
        ("x = f(True)\n", False),
        ("x = f('1')\n", False),
        ("y = f(1)\n", False),
        ("x = f(1); pass\n", False),
        ("x = f(1, None)\n", False),
    ],
)
def test_meaning_is_what_python_does(source, same):
    assert (meaning.digest("x = f(1)\n") == meaning.digest(source)) == same


def test_meaning_has_the_same_digest_on_every_python():
    """Upgrading Python in the middle of a study must not make it anew: syntax trees of versions differ, digests not."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import meaning; from pathlib import Path; import hashlib;"
        "files = sorted(Path(sys.argv[1]).rglob('*.py'));"
        "print(hashlib.sha256(''.join(meaning.digest(f.read_bytes()) for f in files).encode()).hexdigest())"
    )
    digests = set()
    for python in (sys.executable, *(f"python3.{minor}" for minor in range(11, 15))):
        if shutil.which(python) and not subprocess.run([python, "-c", ""], capture_output=True).returncode:
            done = subprocess.run([python, "-c", code, str(PACKAGE)], capture_output=True, text=True, check=True)
            digests.add(done.stdout)
    assert len(digests) == 1
    # Written down once: whoever changes the form of the digest makes every study in the world anew.
    assert meaning.digest("def f(a, *, b=None):\n    return f'{a!r:>{b}}' 'x' or 1j, ..., b'\\x00'\n") == KNOWN


KNOWN = "ba18f9b0250625f3bd9f9fe4536d8055fdcef2273c3f401c041d1d5eb8442a81"


def test_a_note_chooses_the_record_under_which_an_artifact_stands(tmp_path):
    artifact = tmp_path / "views" / "0.tar"
    artifact.parent.mkdir()
    a, b = (provenance.record(tmp_path / "settings", {"steps": steps}) for steps in (1, 2))
    assert made.record_for(artifact, "settings", a) == a, "what has no note is compared by time"
    made.begin(artifact, {"settings": a})
    made.finish(artifact, {"settings": a}, rule="views")
    assert made.record_for(artifact, "settings", a) == a
    younger = made.record_for(artifact, "settings", b)
    assert younger != b and stage.settings(younger) == {"steps": 2}
    assert made.record_for(artifact, "settings", b) == younger, "looking twice makes nothing new"
    assert made.record_for(artifact, "settings", a) == a, "looking at others and going back changes nothing"
    made.begin(artifact, {"settings": younger})
    assert made.record_for(artifact, "settings", b) == younger, "a retry has the inputs of the first attempt"
    killed = made.record_for(artifact, "settings", a)
    assert killed != a, "what was killed under other settings may have been written: it is no longer A's"
    made.finish(artifact, {"settings": younger})
    assert made.record_for(artifact, "settings", b) == younger
    assert made.record_for(artifact, "settings", a) not in (a, killed)


def test_an_accepted_artifact_stands_under_new_code_and_no_other(tmp_path):
    artifact = tmp_path / "0.tar"
    old, new, newer = (provenance.record(tmp_path / "code", {"file": digest}) for digest in "abc")
    made.finish(artifact, {"code": old})
    made.accept(artifact, Path(new).stem, "a message was reworded")
    assert made.record_for(artifact, "code", new) == old
    assert made.record_for(artifact, "code", newer) not in (old, newer)


def test_settings_that_change_no_result_are_read_but_are_no_part_of_the_record(tmp_path):
    path = provenance.record(tmp_path, {"run": {"data": {"crops": 2}}})
    stage.write_runtime(path, {"run": {"data": {"workers": 3}}})
    assert stage.settings(path) == {"run": {"data": {"crops": 2, "workers": 3}}}
    stage.write_runtime(path, {"run": {"data": {"workers": 4}}})
    assert stage.settings(path)["run"]["data"]["workers"] == 4
    assert [file.suffix for file in sorted(tmp_path.iterdir())] == [".json", ".runtime"]


def test_a_study_of_an_earlier_version_that_stated_nulls_is_not_made_again(tmp_path):
    artifact, folder = tmp_path / "views/0-of-1.tar", tmp_path / "settings/views"
    earlier = provenance.record(folder, {"view": {"steps": 3, "model": None}, "seed": 1})
    artifact.parent.mkdir()
    artifact.touch()
    made.finish(artifact, {"settings": earlier})
    today = provenance.record(folder, {"view": {"steps": 3}, "seed": 1, "new": None})
    assert today != earlier and made.record_for(artifact, "settings", today) == earlier
    for other in ({"view": {"steps": 4}, "seed": 1}, {"view": {"steps": 3, "model": "m"}, "seed": 1}, {"seed": 1}):
        changed = provenance.record(folder, other)
        assert made.record_for(artifact, "settings", changed) not in (earlier, today), other
