"""References must give exactly the bytes that were ingested, from any process or thread, or say why not."""

import os
import pickle
import tarfile
import threading

import pytest

from genview.config.dataset import Dataset
from genview.data import tars
from genview.data.reader import Reader, data_root
from genview.errors import GenviewError


@pytest.fixture
def tree(tmp_path):
    contents = {f"f{i}.bin": os.urandom(1000 + i) for i in range(40)}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path, contents


def test_slices_of_a_tar_are_the_members(tmp_path):
    contents = {f"deep/{'x' * n}.jpg": os.urandom(700 * n + 1) for n in (1, 3, 120, 230)}
    with tars.writing(tmp_path / "t.tar") as tar:
        offsets = {name: tar.add(name, data) for name, data in contents.items()}
    reader = Reader(tmp_path)
    for member in tars.members(tmp_path / "t.tar"):
        assert member.offset == offsets[member.name]
        assert reader.read("t.tar", member.offset, member.length) == contents[member.name]
    with tarfile.open(tmp_path / "t.tar") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == contents


def test_equal_contents_give_equal_tars(tmp_path):
    for name in ("a.tar", "b.tar"):
        with tars.writing(tmp_path / name) as tar:
            tar.add("x.jpg", b"123")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_few_files_stay_open(tree):
    root, contents = tree
    reader = Reader(root, handles=3)
    before = len(os.listdir("/proc/self/fd"))
    for name, data in contents.items():
        assert reader.read(name) == data
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_threads_share_a_reader(tree):
    root, contents = tree
    reader = Reader(root, handles=2)
    wrong = []

    def work(names):
        for name in names:
            if reader.read(name, 10, 500) != contents[name][10:510]:
                wrong.append(name)

    names = list(contents)
    threads = [threading.Thread(target=work, args=(names[i:] + names[:i],)) for i in range(0, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_reader_travels_to_other_processes(tree):
    root, contents = tree
    reader = Reader(root)
    reader.read("f0.bin")
    assert pickle.loads(pickle.dumps(reader)).read("f1.bin") == contents["f1.bin"]
    child = os.fork()
    if child == 0:
        os._exit(0 if reader.read("f0.bin", 5, 9) == contents["f0.bin"][5:14] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_that_shrank_is_not_read_as_if_whole(tree):
    root, _ = tree
    with pytest.raises(GenviewError, match=r"f0\.bin: ends 10 bytes before .* ingest again"):
        Reader(root).read("f0.bin", 10, 1000)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(GenviewError, match=r"gone\.jpg: cannot be opened: No such file"):
        Reader(tmp_path).read("gone.jpg")
    with pytest.raises(GenviewError, match="d: cannot be read: Is a directory"):
        Reader(tmp_path).read("d", 0, 5)


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "p.jpg")
    with pytest.raises(GenviewError, match=r"p\.jpg"):
        Reader(tmp_path).read("p.jpg", 0, 5)


@pytest.mark.parametrize("cut", [0.3, 0.7])
def test_a_tar_cut_short_gives_what_is_whole_and_then_says_so(tmp_path, cut):
    with tars.writing(tmp_path / "t.tar") as tar:
        for i in range(10):
            tar.add(f"{i}.jpg", bytes(3000))
    whole = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(whole[: int(len(whole) * cut)])
    found = []
    with pytest.raises(GenviewError, match=r"cut short|damaged"):
        for member in tars.members(tmp_path / "t.tar"):
            found.append(member.name)
    assert 0 < len(found) < 10


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path):
    with tars.writing(tmp_path / "t.tar") as tar:
        offsets = [tar.add(f"{i}.jpg", bytes(3000)) for i in range(10)]
    data = bytearray((tmp_path / "t.tar").read_bytes())
    data[offsets[5] - 400 : offsets[5] - 380] = b"\xff" * 20
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(GenviewError, match="damaged at byte"):
        list(tars.members(tmp_path / "t.tar"))


def test_the_data_root_follows_the_source(tmp_path):
    manifest = "results/s/data/manifest.parquet"
    (tmp_path / "t.tar").touch()
    assert str(data_root(Dataset(source="folder", path="/x"), manifest)) == "/x"
    assert str(data_root(Dataset(source="table", path="/x/t.csv"), manifest)) == "/x"
    assert str(data_root(Dataset(source="table", path="/x/t.csv", image_root="/y"), manifest)) == "/y"
    assert data_root(Dataset(source="webdataset", path=str(tmp_path / "t.tar")), manifest) == tmp_path
    assert data_root(Dataset(source="webdataset", path=str(tmp_path)), manifest) == tmp_path
    assert str(data_root(Dataset(source="scenes"), manifest)) == "results/s/data"
