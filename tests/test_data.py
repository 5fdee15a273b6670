"""The one setting that says where data lies."""

from outpace import data


def test_the_variable_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    assert data.data_root() == tmp_path
    assert data.checkpoint("tiny") is None
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    assert data.checkpoint("tiny") is None
    (folder / "config.json").write_text("{}")
    assert data.checkpoint("tiny") == folder
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "missing"))
    assert data.data_root() is None
    assert data.checkpoint("tiny") is None


def test_unset_it_is_beside_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv(data.VARIABLE, raising=False)
    checkout = tmp_path / "outpace"
    (checkout / "src" / "outpace").mkdir(parents=True)
    monkeypatch.setattr(data, "__file__", str(checkout / "src" / "outpace" / "data.py"))
    assert data.data_root() is None  # no checkout: an installed package
    (checkout / "pyproject.toml").write_text("")
    assert data.data_root() is None
    (tmp_path / "shared").mkdir()
    assert data.data_root() == tmp_path / "shared"
