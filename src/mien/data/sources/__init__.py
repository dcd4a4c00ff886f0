"""Where faces come from: one function per source, each returning a batch of raw rows."""

import contextlib
import io
from pathlib import Path

from mien.data.raw import Batch, write
from mien.data.sources.challenge import csv
from mien.data.sources.folders import folders
from mien.data.sources.parquet import parquet
from mien.data.sources.parts import Progress, place
from mien.data.sources.sample import sample
from mien.data.sources.webdataset import webdataset
from mien.errors import MienError
from mien.files import write_text

__all__ = ["Batch", "csv", "folders", "kaggle", "parquet", "sample", "webdataset", "write"]

KAGGLE_DATASET = "msambare/fer2013"

BY_HAND = (
    f"Or download {KAGGLE_DATASET} in a browser, unpack it and run `mien fetch folders DIR`; "
    "`mien fetch sample` needs neither account nor network."
)


def kaggle(dataset: str = KAGGLE_DATASET, progress: Progress = lambda *_: None, kept: Path | None = None) -> Batch:
    """Download FER-2013 from Kaggle through its official client and the user's own credentials; about 60 MB.

    An interrupted call carries on from the folder `kept`, the client's download included.
    """
    with place(kept) as temporary:
        # A folder of the data set's own name: copies without official file names are called after it.
        folder = Path(temporary, dataset.rpartition("/")[2])
        complete = folder.with_suffix(".complete")
        if not complete.exists():
            _download(dataset, folder)
            write_text(complete, dataset)
        return folders(folder, progress=progress, kept=kept)


def _download(dataset: str, folder: Path) -> None:
    try:
        # The client prints long explanations to stdout, then exits.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except ImportError:
        raise MienError(f"Kaggle's client is not installed: run `pip install kaggle`. {BY_HAND}") from None
    except SystemExit:
        raise MienError(
            "Kaggle knows no valid credentials of yours. Make an API token in your Kaggle settings and put it into "
            f"~/.kaggle/access_token or KAGGLE_API_TOKEN. {BY_HAND}"
        ) from None
    except OSError as error:
        raise MienError(f"Kaggle cannot be reached ({_brief(error)}). Check the network. {BY_HAND}") from None
    try:
        api.dataset_download_files(dataset, path=str(folder), unzip=True, quiet=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise MienError(
            f"Kaggle did not give {dataset} ({_brief(error)}). Check the network and the token. {BY_HAND}"
        ) from None


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:100]
