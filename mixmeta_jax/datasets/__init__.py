"""The data sets of the published examples, shipped with the package."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from mixmeta_jax import gates
from mixmeta_jax.datasets.registry import DATASETS, Dataset

__all__ = ["Dataset", "describe_dataset", "list_datasets", "load_dataset"]


def list_datasets() -> list[str]:
    """Names that :func:`load_dataset` takes, in alphabetical order.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> mx.list_datasets()[:3]
    ['alcohol', 'bcg', 'berkey98']
    """
    return sorted(DATASETS)


def describe_dataset(name: str) -> Dataset:
    """Title, source and columns of a data set; ``print`` shows it as text.

    Raises
    ------
    InputError
        If no data set has that name.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> mx.describe_dataset("bcg").title
    'Thirteen trials of the BCG vaccine against tuberculosis.'
    >>> mx.describe_dataset("bcg").columns["ablat"]
    'distance of the place from the equator, absolute latitude in degrees'
    """
    return DATASETS[gates.choice(name, "name", list_datasets())]


def load_dataset(name: str) -> pd.DataFrame:
    """One of the data sets of the published examples.

    Parameters
    ----------
    name : str
        One of

        ========  ====  =================================================================
        name      rows  source
        ========  ====  =================================================================
        alcohol   48    Orsini et al. 2012: alcohol and colorectal cancer
        bcg       13    Colditz et al. 1994: BCG vaccine against tuberculosis
        berkey98  5     Berkey et al. 1998: surgery for periodontitis
        dbs       46    Ishak et al. 2007: deep-brain stimulation in Parkinson's
        gliomas   68    Fine et al. 1993: chemotherapy of malignant gliomas
        p53       6     Jackson et al. 2011: a mutation as a prognostic factor
        school    56    Konstantopoulos 2011: modified school calendars
        smoking   24    Hasselblad 1998, as analysed by White 2011: smoking cessation
        ========  ====  =================================================================

        :func:`describe_dataset` documents each column with its unit, and gives the full source.

    Returns
    -------
    pandas.DataFrame
        One row per study, or per study and time, dose or stratum; NaN where a value is missing.

    Raises
    ------
    InputError
        If no data set has that name.

    Examples
    --------
    >>> load_dataset("berkey98")[["trial", "PD", "AL"]]
           trial    PD    AL
    0  Pihlstrom  0.47 -0.32
    1     Lindhe  0.20 -0.60
    2    Knowles  0.40 -0.12
    3   Ramfjord  0.26 -0.31
    4     Becker  0.56 -0.39
    """
    dataset = describe_dataset(name)
    with (files("mixmeta_jax.datasets") / f"{dataset.name}.csv").open("rb") as file:
        return pd.read_csv(file)
