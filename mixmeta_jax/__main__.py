"""The command line: ``python -m mixmeta_jax fit "logor ~ ablat" --S logorvar --data bcg``.

It prints the summary of a fit, or with ``--json`` its figures for machines. Whatever is wrong with
a call is said in one sentence on the standard error, with exit code 2. Unlike the import of the
library, the command line keeps what JAX compiles from one run to the next; the folder is that of
the environment variable ``JAX_COMPILATION_CACHE_DIR``, else one in the user's cache.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

# The package loads its names when they are used: help and wrong options cost no import of JAX.
import mixmeta_jax as mx
from mixmeta_jax.errors import MESSAGE_LENGTH, shown
from mixmeta_jax.report.figures import figures, to_json

if TYPE_CHECKING:
    import pandas as pd

PROGRAM = "python -m mixmeta_jax"
WRONG_CALL = 2
INTERRUPTED = 130

PICTURES = ("forest", "funnel", "bubble", "caterpillar", "baujat", "radial", "qq", "structure")
FORMATS = (".png", ".pdf", ".svg")

EXAMPLE = f"""example:
  {PROGRAM} fit "logor ~ ablat" --S logorvar --data bcg --plot bubble.png
"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, without the usage."""

    def format_help(self) -> str:
        """The help, with an example and the data sets, told by their files: no import of pandas."""
        folder = Path(__file__).parent / "datasets"
        names = sorted(path.stem for path in folder.glob("*.csv"))
        self.epilog = f"{EXAMPLE}\ndata sets: {', '.join(names)}"
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the call and end with exit code 2."""
        said = shown(message, MESSAGE_LENGTH)
        self.exit(WRONG_CALL, f"mixmeta_jax: {said}; see {self.prog} --help.\n")


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    top = Parser(
        prog=PROGRAM,
        description="Extended mixed-effects meta-analysis.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"mixmeta-jax {version('mixmeta_jax')}")
    commands = top.add_subparsers(dest="command", metavar="fit", required=True)
    fit = commands.add_parser(
        "fit",
        help="fit a model and print its summary",
        description="Fit a model and print its summary.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = fit.add_argument
    add("formula", help='fixed part, as "logor ~ ablat"; several outcomes as "PD + AL ~ pubyear"')
    add(
        "--data",
        required=True,
        help="name of a bundled data set, or path of a CSV or Parquet file",
    )
    add(
        "--S",
        nargs="+",
        required=True,
        metavar="COLUMN",
        help="columns of the error variances, or of the lower triangles of the covariances",
    )
    add(
        "--random",
        action="append",
        metavar="FORMULA",
        help='random part, as "~ 1 | district/study"; repeat for levels, outer first',
    )
    add(
        "--method", default="reml", help="fixed, ml, reml (default), mm, vc; dl, he, hs, sj, pm, eb"
    )
    add("--backend", default="auto", help="what executes the numbers: auto (default), numpy, jax")
    add(
        "--bscov",
        action="append",
        metavar="NAME",
        help="covariance structure (default unstr); repeat for levels, outer first",
    )
    add(
        "--Psi-fix",
        type=_matrix,
        metavar="MATRIX",
        help='matrix for prop, cor and fixed: rows behind semicolons, as "1 0.5; 0.5 1"',
    )
    add(
        "--rho",
        nargs="+",
        type=float,
        metavar="R",
        help="correlation of the outcomes within units, or one per pair, where S holds variances",
    )
    add("--offset", nargs="+", metavar="COLUMN", help="columns subtracted from the outcomes")
    add("--subset", metavar="CONDITION", help='rows to use, as "year > 1970"')
    add("--conf-level", type=float, default=0.95, metavar="LEVEL", help="default 0.95")
    add("--json", action="store_true", help="print figures for machines in place of the summary")
    add(
        "--plot",
        type=_picture,
        metavar="FILE",
        help="draw a picture of the fit too: forest.png, funnel.pdf, bubble.svg, ...",
    )
    return top


def _picture(text: str) -> Path:
    """A file whose name says which picture it is to hold."""
    path = Path(text)
    kind = path.stem.split("_")[0].split("-")[0]
    if kind not in PICTURES or path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(
            f"{text!r} names no picture: begin with {', '.join(PICTURES)}, and end in "
            f"{', '.join(FORMATS)}"
        )
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def draw(fit: Any, path: Path) -> None:
    """A picture of the fit, by the first word of the file's name, as a file."""
    kind = path.stem.split("_")[0].split("-")[0]
    drawn = getattr(fit.plot, kind)()
    figure = (drawn[0] if isinstance(drawn, list) else drawn).figure
    figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code: 0, or 2 where the data or the model are refused.

    Raises
    ------
    SystemExit
        With code 2 where the arguments cannot be read.
    """
    arguments = parser().parse_args(argv)
    keep_compiled_programs()
    try:
        printed = report(arguments)
    except (mx.InputError, mx.MixmetaError) as error:
        sentence = " ".join(str(error).split())
        print(f"mixmeta_jax: {sentence}", file=sys.stderr)
        return WRONG_CALL
    except KeyboardInterrupt:
        print("mixmeta_jax: interrupted.", file=sys.stderr)
        return INTERRUPTED
    print(printed)
    return 0


def _matrix(text: str) -> list[list[float]]:
    """A matrix from its rows behind semicolons, numbers behind blanks or commas."""
    rows = [[float(x) for x in row.replace(",", " ").split()] for row in text.split(";")]
    if len({len(row) for row in rows}) != 1 or len(rows) != len(rows[0]):
        raise argparse.ArgumentTypeError(f"{text!r} is no square matrix")
    return rows


def report(arguments: argparse.Namespace) -> str:
    """What the call prints: the summary of its fit, or its figures in JSON."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        fit = mx.mixmeta(
            arguments.formula,
            S=_one_or_all(arguments.S),
            data=read_data(arguments.data),
            random=_one_or_all(arguments.random),
            method=arguments.method,
            bscov=_one_or_all(arguments.bscov) or "unstr",
            Psi_fix=arguments.Psi_fix,
            rho=_one_or_all(arguments.rho),
            offset=_one_or_all(arguments.offset),
            subset=arguments.subset,
            control={"backend": arguments.backend},
        )
        summary = fit.summary(conf_level=arguments.conf_level)
        if arguments.plot is not None:
            draw(fit, arguments.plot)
        printed = to_json(figures(fit, summary)) if arguments.json else str(summary)
    for warning in caught:
        # Not those of the cache, whose files a process may meet half written: it then compiles.
        of_cache = "compilation cache" in str(warning.message)
        if issubclass(warning.category, UserWarning) and not of_cache:
            print(f"mixmeta_jax: warning: {warning.message}", file=sys.stderr)
    return printed


def read_data(source: str) -> pd.DataFrame:
    """A bundled data set by its name, or a file by its path.

    Raises
    ------
    InputError
        Where there is no such data set or file, or the file cannot be read.
    """
    import pandas as pd

    if source in mx.list_datasets():
        return mx.load_dataset(source)
    path = Path(source)
    readers = {
        ".csv": _read_csv,
        ".parquet": pd.read_parquet,
        ".pq": pd.read_parquet,
    }
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds what no name can
        there = False
    if not there:
        raise mx.InputError(
            f"There is no data set and no file '{shown(source)}': give one of "
            f"{', '.join(mx.list_datasets())}, or the path of a CSV or Parquet file."
        )
    if path.suffix.lower() not in readers:
        raise mx.InputError(
            f"The file '{shown(source)}' ends in '{shown(path.suffix)}': give a .csv or .parquet "
            "file."
        )
    try:
        return readers[path.suffix.lower()](path)
    except ImportError as error:
        raise mx.InputError(
            f"Reading the Parquet file '{source}' needs pyarrow: install it, or give a CSV file."
        ) from error
    except (OSError, ValueError) as error:
        # Parsers put what they expected on further lines.
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise mx.InputError(
            f"The file '{shown(source)}' cannot be read: {shown(reason, 200)}."
        ) from error


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV file, of which every column has a name of its own.

    pandas takes a first column without a name for row labels, which shifts all others where lines
    end in a separator, and gives a name that is there twice a number.
    """
    import pandas as pd

    header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
    names = header.iloc[0]
    twice = names[names.duplicated() & (names != "")].tolist()
    if twice:
        raise mx.InputError(f"The file '{path}' has two columns of the name '{twice[0]}'.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False)
    except pd.errors.ParserWarning as error:
        raise mx.InputError(
            f"The file '{path}' has lines of more columns than the {len(names)} that its header "
            "names: give every column a name, that of row labels too."
        ) from error


def keep_compiled_programs() -> None:
    """Switch the persistent compilation cache of JAX on, in the folder that is set or our own."""
    jax = sys.modules.get("jax")
    if jax is not None and os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        # Who calls this from a process of their own, in which XLA may complain.
        return
    # A program from the cache makes XLA complain, without need, about the machine's features.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The programs are small: by default none would take long enough, or be large enough, to keep.
    settings: dict[str, Any] = {
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    given = (
        os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if jax is None
        else (jax.config.values["jax_compilation_cache_dir"])
    )
    if not given:
        folder = _cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        if not os.access(folder, os.W_OK):
            # Every run then compiles for itself.
            return
        settings["jax_compilation_cache_dir"] = str(folder)
    for name, value in settings.items():
        if jax is None:
            # JAX reads them when it is imported, if a fit needs it at all.
            os.environ[name.upper()] = str(value)
        else:
            jax.config.update(name, value)


def _cache_folder() -> Path:
    """Where the system keeps a user's caches."""
    home = Path("~").expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "mixmeta_jax" / "jax"


def _one_or_all(values: list | None) -> Any:
    """What was given once as itself, what was given several times as a list."""
    return values[0] if values is not None and len(values) == 1 else values


if __name__ == "__main__":
    # A process of one fit leaves little garbage; searching for it takes a tenth of the start.
    gc.disable()
    sys.exit(main())
