"""mien.inference.predictions: records that are typed, print well, and become dicts and data frames."""

import dataclasses
import json
import pickle
import sys
from typing import Any

import pytest

import mien
from mien import Box, FacePrediction, MienError, ModelInfo, Prediction, to_frame
from mien.emotions import EMOTIONS
from mien.inference.predictions import COLUMNS, to_rows

MODEL = ModelInfo("3", "cnn", "sample", "d1ce", "c0de", synthetic=True)
SHARES = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.6, "sad": 0.15}
SURE = FacePrediction(Box(1, 2, 30, 40), "happy", SHARES, 0.6, "ok", "yunet", 0.9, ((1.0, 2.0),) * 5)
UNSURE = FacePrediction(Box(5, 6, 10, 10), "happy", SHARES, 0.6, "too_small", "haar")
TWO = Prediction("ok", (SURE, UNSURE), MODEL, "a.jpg")
NONE = Prediction("no_face", (), MODEL)
BROKEN = Prediction("error", (), MODEL, "b.jpg", "b.jpg: cut off")


def test_a_prediction_prints_as_a_table_and_shows_itself_in_a_line() -> None:
    assert str(TWO).splitlines() == [
        "a.jpg: 2 faces",
        "  happy     ok         at 1,2 30×40   happy 60%, sad 15%, angry 5%",
        "  happy     too_small  at 5,6 10×10   happy 60%, sad 15%, angry 5%",
    ]
    assert repr(TWO) == "<Prediction 'a.jpg': 2 faces; happy 60%; happy 60% (too_small)>"
    assert (str(NONE), repr(NONE)) == ("photo: 0 faces", "<Prediction 0 faces>")
    assert (str(BROKEN), repr(BROKEN)) == ("b.jpg: cut off", "<Prediction 'b.jpg': b.jpg: cut off>")


def test_a_prediction_becomes_a_dict_of_plain_values_in_one_call() -> None:
    answer = json.loads(json.dumps(TWO.to_dict()))
    assert answer == TWO.to_dict()
    assert list(answer) == ["photo", "status", "faces", "model"]
    assert answer["faces"][0]["landmarks"] == [[1.0, 2.0]] * 5
    assert answer["faces"][1]["detection"] is None
    assert NONE.to_dict() == {"status": "no_face", "faces": [], "model": MODEL.to_dict()}
    assert BROKEN.to_dict() == {"photo": "b.jpg", "error": "b.jpg: cut off"}


def test_a_prediction_is_read_like_its_dict_too() -> None:
    assert TWO["faces"][0]["box"] == [1, 2, 30, 40]
    assert TWO.to_dict() == {**TWO}
    assert TWO["model"]["version"] == MODEL["version"] == "3"
    with pytest.raises(KeyError):
        TWO["feces"]


def test_predictions_are_frozen_compared_by_their_answers_and_travel_between_processes() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TWO.status = "no_face"  # type: ignore[misc]
    assert dataclasses.replace(TWO, photo="other.jpg") == TWO != NONE
    assert len({TWO, NONE, dataclasses.replace(TWO, photo="other.jpg")}) == 2
    assert pickle.loads(pickle.dumps(TWO)) == TWO


def test_a_data_frame_has_a_row_a_face_and_one_for_each_photo_without() -> None:
    frame = to_frame([TWO, NONE, BROKEN])
    assert tuple(frame.columns) == (*COLUMNS, "error")
    assert frame["photo"].tolist() == ["a.jpg", "a.jpg", "#2", "b.jpg"]
    assert frame["status"].tolist() == ["ok", "too_small", "no_face", "error"]
    assert frame["width"].tolist()[:2] == [30, 10]
    assert frame["happy"].mean() == pytest.approx(0.6)
    assert frame["error"].tolist()[3] == "b.jpg: cut off"
    assert frame["emotion"].isna().tolist() == [False, False, True, True]
    assert NONE.to_frame()["face"].isna().all()
    assert to_frame([]).empty
    assert to_frame(TWO).equals(TWO.to_frame())
    assert frame.dtypes.equals(NONE.to_frame().dtypes)


def test_without_pandas_a_data_frame_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MienError, match="pip install pandas"):
        to_frame([TWO])


def test_every_row_is_as_wide_as_its_header() -> None:
    assert {len(row) for row in to_rows("p", TWO.faces) + to_rows("p", [])} == {len(COLUMNS)}


def test_the_package_offers_its_names_and_no_others() -> None:
    assert all(getattr(mien, name) for name in mien.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Main'"):
        mien.Main  # type: ignore[attr-defined] # noqa: B018


def test_a_record_holds_no_more_than_its_fields() -> None:
    values: dict[str, Any] = SURE.to_dict()
    assert set(values) == {field.name for field in dataclasses.fields(FacePrediction)}
