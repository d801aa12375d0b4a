"""The command line: what it prints, in words and for machines, and how it refuses."""

import json
import os
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import mixmeta_jax as mx
from mixmeta_jax.__main__ import _cache_folder, keep_compiled_programs, main, read_data

ROOT = Path(__file__).parents[1]
BCG = ["fit", "logor ~ ablat", "--S", "logorvar", "--data", "bcg"]
BERKEY = ["fit", "PD + AL ~ pubyear", "--S", "var_PD", "cov_PD_AL", "var_AL", "--data", "berkey98"]
SMOKING = ["fit", "yB + yC + yD", "--S", "SBB", "SBC", "SBD", "SCC", "SCD", "SDD"]
SMOKING += ["--data", "smoking"]
SCHOOL = ["fit", "effect", "--S", "var", "--data", "school"]
P53 = ["fit", "y1 + y2", "--S", "V1", "V2", "--data", "p53"]


@pytest.fixture
def printed(capsys):
    """Run a call that succeeds; what it prints."""

    def run(arguments):
        assert main(arguments) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def refusal(capsys):
    """Run a call that is refused; the one line it says."""

    def run(arguments):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        assert code == 2
        assert captured.out == ""
        assert captured.err.startswith("mixmeta_jax: ")
        assert captured.err.count("\n") == 1
        return captured.err

    return run


def strict(text):
    """JSON without the NaN and Infinity that Python's reader would let pass."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_summary(printed):
    fit = mx.mixmeta("logor ~ ablat", S="logorvar", data=mx.load_dataset("bcg"))
    assert printed(BCG) == f"{fit.summary()}\n"
    assert printed([*BCG, "--conf-level", "0.9"]) == f"{fit.summary(conf_level=0.9)}\n"


def test_figures_for_machines(printed):
    fit = mx.mixmeta(
        "PD + AL ~ pubyear",
        S=["var_PD", "cov_PD_AL", "var_AL"],
        data=mx.load_dataset("berkey98"),
    )
    told = strict(printed([*BERKEY, "--json"]))
    assert told["coef"] == fit.coef.to_dict()
    assert list(told["coef"]) == list(fit.coef.index)
    np.testing.assert_array_equal(told["vcov"], fit.vcov)
    assert list(told["Psi"]) == ["unit"]
    assert told["Psi"]["unit"]["names"] == ["PD", "AL"]
    np.testing.assert_array_equal(told["Psi"]["unit"]["matrix"], fit.Psi)
    for name in ("formula", "random", "method", "bscov", "loglik", "aic", "bic", "converged"):
        assert told[name] == getattr(fit, name)
    assert told["df"] == {"nall": 10, "nobs": 6, "fixed": 4, "random": 3}
    assert told["Q"]["overall"]["Q"] == fit.qtest().loc["overall", "Q"]
    assert told["coefficients"]["AL.pubyear"]["estimate"] == fit.coef["AL.pubyear"]
    assert told["status"] == "CONVERGED"


def test_what_is_not_a_number_is_null(printed):
    told = strict(printed([*SMOKING, "--method", "mm", "--json"]))
    assert told["loglik"] is None and told["aic"] is None
    assert told["status"] == "BOUNDARY"


def test_levels(printed):
    told = strict(
        printed([*SCHOOL, "--random", "~ 1 | district/study", "--method", "ml", "--json"])
    )
    fit = mx.mixmeta(
        "effect",
        S="var",
        data=mx.load_dataset("school"),
        random="~ 1 | district/study",
        method="ml",
    )
    assert list(told["Psi"]) == ["district", "study"]
    for level, Psi in fit.Psi.items():
        np.testing.assert_array_equal(told["Psi"][level]["matrix"], Psi)


def test_levels_one_by_one_with_their_structures(printed):
    levels = ["--random", "~ 1 | district", "--random", "~ 1 | study", "--bscov", "id"]
    told = strict(printed([*SCHOOL, *levels, "--bscov", "diag", "--json"]))
    assert told["random"] == ["~ 1 | district", "~ 1 | study"]
    assert told["bscov"] == {"district": "id", "study": "diag"}


def test_correlation_subset_and_offset(printed, tmp_path):
    told = strict(printed([*P53, "--rho", "0.5", "--subset", "study > 1", "--json"]))
    data = mx.load_dataset("p53")
    fit = mx.mixmeta("y1 + y2", S=["V1", "V2"], data=data[data["study"] > 1], rho=0.5)
    assert told["coef"] == pytest.approx(fit.coef.to_dict(), rel=1e-9)

    bcg = mx.load_dataset("bcg").assign(known=np.arange(13) / 10)
    bcg.to_csv(tmp_path / "known.csv", index=False)
    call = ["fit", "logor", "--S", "logorvar", "--data", str(tmp_path / "known.csv")]
    told = strict(printed([*call, "--offset", "known", "--json"]))
    fit = mx.mixmeta("logor", S="logorvar", data=bcg, offset="known")
    assert told["coef"] == pytest.approx(fit.coef.to_dict(), rel=1e-9)


def test_csv_file(printed, tmp_path):
    path = tmp_path / "mine.csv"
    mx.load_dataset("bcg").to_csv(path, index=False)
    assert printed([*BCG[:-1], str(path)]) == printed(BCG)


def test_parquet_file(printed, tmp_path):
    pytest.importorskip("pyarrow", reason="reading Parquet is pyarrow's")
    path = tmp_path / "mine.parquet"
    mx.load_dataset("bcg").to_parquet(path)
    assert printed([*BCG[:-1], str(path)]) == printed(BCG)


def test_parquet_file_without_its_reader(refusal, tmp_path, monkeypatch):
    def absent(path):
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", absent)
    path = tmp_path / "mine.parquet"
    path.touch()
    assert "needs pyarrow" in refusal([*BCG[:-1], str(path)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required: fit"),
        (["refit"], "invalid choice: 'refit'"),
        (["fit", "logor"], "required: --data, --S"),
        ([*BCG, "--foo"], "unrecognized arguments: --foo"),
        ([*BCG, "--meth", "ml"], "unrecognized arguments: --meth"),
        ([*BCG, "--rho", "high"], "invalid float value: 'high'"),
        ([*BCG[:-1], "bcgg"], "no data set and no file 'bcgg'"),
        ([*BCG[:-1], "."], "no data set and no file '.'"),
        ([*BCG, "--S", "var"], "no column 'var'"),
        ([*BCG, "--method", "median"], "method='median' is not known"),
        ([*BCG, "--bscov", "round"], "round"),
        ([*BCG, "--random", "~ 1 | town"], "no column 'town'"),
        ([*BCG, "--subset", "year >"], "cannot be evaluated on the data"),
        ([*BCG, "--conf-level", "95"], "conf_level"),
        (["fit", "logor ~ latitude", *BCG[2:]], "no column 'latitude'"),
    ],
)
def test_wrong_calls_are_answered_in_one_sentence(refusal, arguments, said):
    assert said in refusal(arguments)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "cannot be read: No columns"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3,4\n", "cannot be read: Error tokenizing data"),
        ("binary.csv", b"a,b\n\xff\xfe\xfa,1\n", "cannot be read: 'utf-8' codec"),
        ("notes.txt", b"a,b\n1,2\n", "ends in '.txt'"),
        ("separators.csv", b"a,b\n1,2,\n3,4,\n", None),
        ("shifted.csv", b"a,b\n1,2,3\n4,5,6\n", "more columns than the 2"),
        ("row_names.csv", b'"a","b"\n"x",1,2\n"y",3,4\n', "more columns than the 2"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "two columns of the name 'a'"),
    ],
)
def test_files_that_hold_no_table(refusal, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    if said is not None:
        assert said in refusal([*BCG[:-1], str(path)])
        return
    # Nothing but separators: every value stays in its column.
    assert read_data(str(path)).to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_rows_that_are_left_out_are_told(printed, tmp_path):
    path = tmp_path / "gaps.csv"
    bcg = mx.load_dataset("bcg")
    bcg.loc[2, "ablat"] = np.nan
    bcg.loc[5, "logor"] = np.nan
    bcg.to_csv(path, index=False)
    told = printed([*BCG[:-1], str(path)])
    assert "Left out 2 rows: 'ablat' is missing (1), every outcome is missing (1)" in told
    reasons = ["'ablat' is missing", "every outcome is missing"]
    dropped = strict(printed([*BCG[:-1], str(path), "--json"]))["dropped"]
    assert dropped == [{"row": r, "reason": w} for r, w in zip([2, 5], reasons, strict=True)]


def test_as_a_program_it_keeps_what_it_compiles(tmp_path):
    """In a process of its own, with a cache folder of its own, twice."""
    # Importing jax, as these tests do, sets TF_CPP_MIN_LOG_LEVEL.
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment = {k: v for k, v in inherited.items() if not k.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    environment |= {"HOME": str(tmp_path)}
    runs = [
        subprocess.run(
            [sys.executable, "-m", "mixmeta_jax", *SCHOOL, "--random", "~ 1 | district/study"]
            + ["--backend", backend],
            cwd=ROOT,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        for backend in ("jax", "jax", "auto")
    ]
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout
    assert "Level district, 11 groups" in runs[0].stdout
    assert [run.stderr for run in runs] == ["", "", ""]
    assert [path for path in tmp_path.rglob("jax/*") if path.is_file()]


def test_a_cache_folder_that_is_set_stays():
    """The one of these tests, here."""
    before = jax.config.values["jax_compilation_cache_dir"]
    assert before is not None
    keep_compiled_programs()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 0


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.touch()
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(blocked))
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        keep_compiled_programs()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    ("platform", "folder"),
    [
        ("linux", ".cache/mixmeta_jax/jax"),
        ("darwin", "Library/Caches/mixmeta_jax/jax"),
        ("win32", "AppData/Local/mixmeta_jax/jax"),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch, platform, folder):
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert _cache_folder() == Path("~").expanduser() / folder


def test_help_and_wrong_options_do_not_load_jax():
    code = """
import sys
from mixmeta_jax.__main__ import main
try:
    main(["fit", "--help"])
except SystemExit as end:
    assert end.code == 0
print("jax" in sys.modules, "pandas" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert run.stdout.splitlines()[-1] == "False False"


def test_a_structure_with_a_given_matrix(printed, refusal):
    call = [*SMOKING, "--bscov", "prop", "--Psi-fix"]
    figures = strict(printed([*call, "2 1 1; 1 2 1; 1 1 2", "--json"]))
    # Table 1 of the paper.
    assert figures["coef"]["yB"] == pytest.approx(0.398, abs=1e-3)
    for wrong in ("1 2; 3", "a"):
        assert "Psi-fix" in refusal([*call, wrong])


def test_the_version_and_an_example_are_told(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as ended:
            main([option])
        assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"mixmeta-jax {mx.__version__}")
    assert 'fit "logor ~ ablat" --S logorvar --data bcg' in told
    assert ", ".join(mx.list_datasets()) in told


def test_a_picture_is_drawn_by_its_name(tmp_path, capsys):
    call = ["fit", "logor ~ ablat", "--S", "logorvar", "--data", "bcg", "--plot"]
    assert main([*call, str(tmp_path / "bubble_latitude.svg")]) == 0
    assert "<svg" in (tmp_path / "bubble_latitude.svg").read_text()
    capsys.readouterr()
    for wrong, why in (("pie.png", "names no picture"), ("x/forest.png", "there is no folder")):
        with pytest.raises(SystemExit) as ended:
            main([*call, str(tmp_path / wrong)])
        assert ended.value.code == 2
        assert why in capsys.readouterr().err


def test_the_console_script_is_this_program():
    scripts = entry_points(group="console_scripts", name="mixmeta-jax")
    assert [script.load() for script in scripts] == [main]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "x" * 5000 + ".csv"],
        ["--data", "a\0b.csv"],
        ["--data", "/"],
        ["--data", "bcg", "x" * 5000],
        ["--data", "bcg", "--Psi-fix", "x" * 5000],
        ["--data", "bcg", "--random", "x" * 5000],
        ["--data", "bcg", "--subset", "x" * 5000],
        ["--data", "bcg", "--method", "x" * 5000],
        ["--data", "bcg", "--backend", "x" * 5000],
        ["--data", "bcg", "--conf-level", "1e400"],
    ],
    ids=lambda arguments: " ".join(arguments)[:24],
)
def test_errors_are_one_line_of_readable_length(arguments, capsys):
    try:
        code = main(["fit", "logor ~ ablat", "--S", "logorvar", *arguments])
    except SystemExit as ended:
        code = ended.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("mixmeta_jax: ")
    assert said.err.count("\n") == 1
    assert len(said.err) < 500


def test_warnings_of_the_compilation_cache_are_not_told(monkeypatch, capsys):
    def noisy(*args, **options):
        warnings.warn("Error reading persistent compilation cache entry for 'x'", stacklevel=1)
        warnings.warn("A sentence of our own.", stacklevel=1)
        return mixmeta(*args, **options)

    mixmeta = mx.mixmeta
    monkeypatch.setattr(mx, "mixmeta", noisy)
    assert main(["fit", "logor", "--S", "logorvar", "--data", "bcg", "--backend", "numpy"]) == 0
    assert capsys.readouterr().err == "mixmeta_jax: warning: A sentence of our own.\n"


def test_the_cache_stays_off_where_xla_would_complain(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    before = jax.config.values["jax_persistent_cache_min_compile_time_secs"]
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7)
    try:
        keep_compiled_programs()
        assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == 7
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
