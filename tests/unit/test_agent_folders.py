"""Work folders: what a former life left behind is in nobody's way."""

from pathlib import Path

from agent.folders import Folders


def test_a_folder_in_which_nothing_started_is_given_again(tmp_path: Path) -> None:
    """Without a look at it, for which there may be no descriptor."""
    folders = Folders(tmp_path, tmp_path / "kept")
    folder = folders.take()
    folders.put_back(folder)
    assert folders.take() is folder


def test_a_folder_that_could_not_be_removed_is_passed_by(tmp_path: Path) -> None:
    """A process of a killed agent may go on writing there: the next task failed to start."""
    for left in ("1", "2"):
        (tmp_path / left).mkdir()
    assert Folders(tmp_path, tmp_path / "kept").take().path == tmp_path / "3"
