"""A red test in a process of its own turns the one that started it red."""

import pytest

from tests.kernels import suites


@pytest.mark.parametrize(
    "body, complaint",
    [
        ("assert os.environ['CHOSEN'] == 'yes' and 'UNSET' not in os.environ", None),
        ("assert 'left' == 'right'", "assert 'left' == 'right'"),
        ("pytest.skip('no reason')", "1 skipped"),  # nothing ran: that proves nothing
        ("import surely_missing", "No module named 'surely_missing'"),
    ],
)
def test_the_outcome_is_that_of_the_file(body, complaint, tmp_path, monkeypatch):
    folder = tmp_path / "tests" / "kernels" / "suite"
    folder.mkdir(parents=True)
    (folder / "test_one.py").write_text(f"import os\nimport pytest\n\ndef test_it():\n    {body}\n")
    monkeypatch.setattr(suites, "FOLDER", folder.parent)
    monkeypatch.setenv("UNSET", "1")
    assert suites.files_of("suite") == ["test_one.py"]
    if complaint is None:
        suites.run_file("suite", "test_one.py", {"CHOSEN": "yes", "UNSET": None})
    else:
        with pytest.raises(pytest.fail.Exception, match=complaint):
            suites.run_file("suite", "test_one.py", {"CHOSEN": "yes", "UNSET": None})
