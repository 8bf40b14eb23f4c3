"""Bring what a study needs of the hub into the hub's cache: sizes first, digests after, the lock at the end."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import huggingface_hub
import open_clip
from huggingface_hub import constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoSibling

from genview import provenance, words
from genview.config.evaluation import Evaluation
from genview.config.study import Study
from genview.errors import GenviewError
from genview.evaluation import catalogue, datasets, third_party
from genview.evaluation.splits import Purpose
from genview.hub import lock as locks
from genview.hub import sources
from genview.hub.lock import File, Lock
from genview.hub.sources import Address, Source
from genview.preflight.evaluation import TASKS
from genview.report import wording

Say = Callable[[str], None]
BLOCK = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """Files of a repository at one commit.

    Attributes:
        revision: what was asked for: a branch or tag, under which the cache finds it again, or the commit itself.
        commit: 40 hexadecimal digits.
        keys: where the configuration names it.
        named: names under which the lock finds it again.
    """

    repository: str
    revision: str | None
    commit: str
    keys: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[RepoSibling, ...]

    def missing(self) -> list[RepoSibling]:
        """Files that the cache does not hold yet."""
        found = huggingface_hub.try_to_load_from_cache
        return [f for f in self.files if not isinstance(found(self.repository, f.rfilename, revision=self.commit), str)]


def run(study: Study, lock_path: Path, say: Say, *, dry: bool = False, update: bool = False) -> None:
    """Fetch everything, check it, and write the lock.

    Args:
        study: the study.
        lock_path: where the lock stands or will stand.
        say: prints a line.
        dry: say what would be fetched, with sizes, and end.
        update: let revisions that are newer than the lock's take their places in it.

    Raises:
        GenviewError: the hub cannot be reached, has no such model, refuses it, or gave other bytes than it promised;
            or the disk is too small.
    """
    known = locks.read(lock_path) or Lock()
    found = list(sources.of(study))
    wanted = _wanted(each for each in found if isinstance(each, Source))
    addresses = {each.tag["url"]: each for each in found if isinstance(each, Address)}
    for each in wanted:
        size, rest = _size(each.files), _size(each.missing())
        state = "in the cache" if not rest else f"{wording.size(rest)} to fetch"
        say(f"{each.repository} at {each.commit[:8]}: {wording.size(size)}, {state} ({', '.join(each.keys)})")
    for url, address in addresses.items():
        say(f"{url}: size not told before ({address.key})")
    fetchable = list(_datasets(study.evaluation))
    for name, _ in fetchable:
        say(f"data set {name}: size not told before (evaluation.download)")
    total = sum(_size(each.missing()) for each in wanted)
    say(f"to fetch: {wording.size(total)} into {constants.HF_HUB_CACHE}")
    if dry:
        return
    _require_space(total)
    repositories = dict(known.repositories)
    for each in wanted:
        files, before = _fetched(each, say), repositories.get(each.repository)
        if before is None or before.revision == each.commit or update:
            repositories[each.repository] = _merged(before, each.commit, files)
        else:
            say(f"{each.repository}: {lock_path} keeps {before.revision[:8]}; --update takes {each.commit[:8]} into it")
    others = {**known.addresses, **{url: _of_address(address, say) for url, address in addresses.items()}}
    named = {**known.named, **{name: each.repository for each in wanted for name in each.named}}
    if wanted or addresses:
        locks.write(lock_path, Lock(named=named, repositories=repositories, addresses=others))
        say(f"{lock_path}: written")
    for name, purpose in fetchable:
        say(f"data set {name}")
        request = datasets.Request(name, root=study.evaluation.root, download=True, seed=study.seed, purpose=purpose)
        request.load(purpose)


def _wanted(found: Iterable[Source]) -> list[Wanted]:
    """What the hub has of the sources; several that mean one repository at one commit are one."""
    result: dict[tuple[str, str], Wanted] = {}
    for source in found:
        revision = source.revision
        info = _asked(source)
        commit, siblings = str(info.sha), {file.rfilename: file for file in info.siblings or ()}
        chosen = [siblings[name] for name in source.choose(sorted(siblings))]
        if not chosen:
            raise GenviewError(f"{source.key}: {source.repository} holds no file that this study could use")
        known_as = (source.named,) if source.named else ()
        before = result.get((source.repository, commit))
        each = Wanted(source.repository, revision, commit, (source.key,), known_as, tuple(chosen))
        if before:
            files = {file.rfilename: file for file in (*before.files, *chosen)}
            keys = tuple(dict.fromkeys((*before.keys, source.key)))
            named = tuple(dict.fromkeys((*before.named, *known_as)))
            each = replace(before, keys=keys, named=named, files=tuple(files.values()))
        result[source.repository, commit] = each
    commits: dict[str, str] = {}
    for repository, commit in result:
        if commits.setdefault(repository, commit) != commit:
            raise GenviewError(f"{repository}: the study asks for two revisions, {commits[repository]} and {commit}")
    return list(result.values())


def _asked(source: Source) -> huggingface_hub.ModelInfo:
    revision = source.revision
    at = f" at revision {revision}" if revision else ""
    try:
        return huggingface_hub.HfApi().model_info(source.repository, revision=revision, files_metadata=True)
    except GatedRepoError:
        page = f"{constants.ENDPOINT}/{source.repository}"
        raise GenviewError(
            f"{source.key}: {source.repository} asks for consent: accept its terms at {page}, then `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise GenviewError(f"{source.key}: {source.repository} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise GenviewError(
            f"{source.key}: the hub has no {source.repository}, or it is private (`hf auth login`)"
        ) from None
    except Exception as error:  # the hub's client lets through whatever its transport raises
        raise GenviewError(
            f"{source.key}: {constants.ENDPOINT} cannot be asked for {source.repository}{at}: {_first_line(error)}. "
            "Fetch on a machine with network access, such as the login node; jobs need none"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _size(files: Iterable[RepoSibling]) -> int:
    return sum(file.size or 0 for file in files)


def _require_space(total: int) -> None:
    folder = Path(constants.HF_HUB_CACHE)
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if total > free:
        raise GenviewError(
            f"{folder}: {wording.size(total)} are to be fetched, but {wording.size(free)} are free; set HF_HOME to a "
            "folder with more space"
        )


def _fetched(wanted: Wanted, say: Say) -> dict[str, File]:
    """Fetch what is missing of a repository and check every file against what the hub says that it is."""
    names = [file.rfilename for file in wanted.files]
    if missing := wanted.missing():
        say(f"{wanted.repository}: fetching {wording.size(_size(missing))}")
    # By the name that was asked for: the cache keeps what it stands for, and finds it again without a network.
    revision = wanted.revision
    try:
        folder = Path(huggingface_hub.snapshot_download(wanted.repository, revision=revision, allow_patterns=names))
    except Exception as error:  # the hub's client lets through whatever its transport raises
        raise GenviewError(
            f"{wanted.repository}: stopped while it was fetched: {_first_line(error)}. The same command goes on"
        ) from None
    if folder.name != wanted.commit:
        raise GenviewError(f"{wanted.repository}: changed while it was fetched; start the same command again")
    found, wrong = {}, []
    for file in wanted.files:
        path = folder / file.rfilename
        sha256, expected = provenance.file_sha256(path), file.lfs.sha256 if file.lfs else None
        whole = sha256 == expected if expected else _git_digest(path) == file.blob_id
        if not whole:
            # The blob behind the link is what is wrong: without it the next start fetches it again.
            os.unlink(path.resolve())
            path.unlink(missing_ok=True)
            wrong.append(file.rfilename)
        found[file.rfilename] = File(size=path.stat().st_size if whole else 0, sha256=sha256)
    if wrong:
        raise GenviewError(
            f"{wanted.repository}: {words.listed(wrong)}: not the bytes that the hub promises; removed. Start the same "
            "command again"
        )
    return found


def _git_digest(path: Path) -> str:
    """The name that git gives to a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _merged(before: locks.Repository | None, commit: str, files: dict[str, File]) -> locks.Repository:
    """A repository's entry: files of other studies stay in it while the commit is the same."""
    same = before is not None and before.revision == commit
    earlier = before.files if before is not None and same else {}
    for name in earlier.keys() & files.keys():
        if earlier[name] != files[name]:
            raise GenviewError(f"{name}: has SHA-256 {files[name].sha256}, but the lock says {earlier[name].sha256}")
    return locks.Repository(revision=commit, files={**earlier, **files})


def _of_address(address: Address, say: Say) -> File:
    say(f"{address.tag['url']}: fetching")
    try:
        path = Path(open_clip.download_pretrained(address.tag))
    except (OSError, RuntimeError) as error:
        raise GenviewError(f"{address.key}: {address.tag['url']} cannot be fetched: {_first_line(error)}") from None
    return File(size=path.stat().st_size, sha256=provenance.file_sha256(path))


def _datasets(evaluation: Evaluation) -> Iterable[tuple[str, Purpose]]:
    """Data sets that may be fetched: torchvision's and clip_benchmark's, where the configuration allows it."""
    if not evaluation.download:
        return
    seen = set()
    for task, purpose in TASKS.items():
        for name in getattr(evaluation, task).datasets:
            if name in evaluation.datasets or name in seen or name.startswith("wds/"):
                continue
            entry = catalogue.ENTRIES.get(name)
            if entry.downloadable and entry.folder if entry else third_party.known(name):
                seen.add(name)
                yield name, purpose
