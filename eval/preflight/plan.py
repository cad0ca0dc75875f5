"""The runs that make up the papers' tables, and what each of them lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from foir.errors import Unavailable

from ..datasets.base import InstanceDataset
from ..experiments import itae, mao, phs, qpert, registry
from ..experiments.specs import ExperimentSpec
from . import weights
from .data import DataState, data_state
from .machine import Work, disk_needs, gpu_needs, work
from .needs import Need
from .weights import HubState, detector_needs, model_needs

PAPERS = (phs, qpert, mao, itae)
NONE = "none"  # in place of a data set or an encoder
OWID = "Put OWID, by the link on https://github.com/Jaraxxus-Me/VoxDet, to FOIR_DATA/VoxDet/OWID"


@dataclass(frozen=True)
class Run:
    """One experiment on one data set with one encoder.

    Attributes:
        data: State of the data set; None where none is needed.
        missing: What is not here.
        work: What it costs.
        revision: The encoder's; empty where it is not known before it is loaded.
        weights: Where the encoder's weights are, in one line; empty for random ones.
        adapter: The file with fine-tuned rows, where the run measures the fine-tuned encoder.
    """

    experiment: ExperimentSpec
    dataset: str
    encoder: str
    data: DataState | None
    missing: tuple[Need, ...]
    work: Work
    revision: str = ""
    weights: str = ""
    adapter: Path | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can run, if without some rows."""
        return all(need.rows for need in self.missing)

    @property
    def state(self) -> str:
        """Ready, with the rows that are left out, or what is missing, in a few words."""
        kinds = ", ".join(dict.fromkeys(need.kind for need in self.missing if not need.rows))
        rows = ", ".join(dict.fromkeys(need.rows for need in self.missing if need.rows))
        return f"missing: {kinds}" if kinds else f"ready, without the rows of {rows}" if rows else "ready"

    @property
    def table(self) -> str:
        """The experiment's name, with a mark where the run measures the fine-tuned encoder."""
        return self.experiment.name + (" (fine-tuned)" if self.adapter else "")


def tables(names: Sequence[str]) -> list[ExperimentSpec]:
    """The experiments of these names; all tables and figures of the papers where there are none.

    Raises:
        Unavailable: There is no such experiment.
    """
    if not names:
        found = (experiment for paper in PAPERS for experiment in paper.EXPERIMENTS)
        return [experiment for experiment in found if not getattr(experiment, "best_of_grid", False)]
    unknown = next((name for name in names if name not in registry()), None)
    if unknown is not None:
        raise Unavailable(f"There is no experiment {unknown!r}; python -m eval list names them.")
    return [registry()[name] for name in names]


def plan(names: Sequence[str], results: Path, *, pretrained: bool = True, revision: str | None = None) -> list[Run]:
    """Every run of some tables.

    Args:
        names: See `tables`.
        results: Folder of the results; adapters are looked for in its folder "adapters".
        pretrained: False where random weights will do.
        revision: Commit of the weights that bring code.
    """
    hub_state = HubState(revision)
    data = cache(partial(data_state, hub_state=hub_state))
    runs = []
    for experiment in tables(names):
        for dataset in experiment.datasets or (NONE,):
            state = None if dataset == NONE or experiment.data_kind is None else data(dataset)
            for encoder in experiment.encoders:
                runs += _runs(experiment, dataset, encoder, state, results, hub_state if pretrained else None)
    return runs


def all_needs(runs: Iterable[Run], results: Path) -> list[Need]:
    """All that the runs lack, each once."""
    found: dict[tuple[str, str], Need] = {}
    for need in [need for run in runs for need in run.missing] + disk_needs(results, stored(runs)):
        first = found.setdefault((need.what, need.source), need)
        if len(need.rows) > len(first.rows) > 0 or not need.rows:  # some runs need it for more rows, or for all
            found[need.what, need.source] = need
    return list(found.values())


def stored(runs: Iterable[Run]) -> int:
    """Bytes of the features that the runs store, those that several of them share once."""
    return sum({run.work.store: run.work.stored for run in runs}.values())


def _runs(
    experiment: ExperimentSpec, dataset: str, encoder: str, data: DataState | None, results: Path,
    hub_state: HubState | None,
) -> list[Run]:  # fmt: skip
    """The run with the encoder as it is, and with the fine-tuned one if a row asks for it."""
    rows = getattr(experiment, "rows", ())
    kinds = {f"{row.options['boxes']} boxes" for row in rows if "boxes" in row.options}
    needs = [need for need in (data.missing if data else ()) if not need.rows or need.rows in kinds]
    commit, where = "random", ""
    if encoder != NONE:
        needs += gpu_needs(encoder)
        if hub_state is not None:
            needs += model_needs(encoder, hub_state)
            commit, where = weights.revision(encoder, hub_state), weights.describe(encoder, hub_state)
        if hub_state is not None and kinds and experiment.data_kind is InstanceDataset:
            needs += detector_needs(encoder, hub_state, has_masks=data is None or data.has_masks)
    estimate = work(experiment, dataset, encoder, data.sizes if data else {})
    run = Run(experiment, dataset, encoder, data, tuple(needs), estimate, commit, where)
    if hub_state is None or not any(row.options.get("trained") for row in rows):
        return [run]
    adapter = results / "adapters" / f"{encoder}.safetensors"
    voxdet = experiment in mao.EXPERIMENTS  # the papers' own are trained on VoxDet
    command = f"python -m foir.small_objects.finetune --encoder {encoder} --data {'voxdet' if voxdet else 'playroom'}"
    source = (f"{OWID}, then: " if voxdet else "") + f"{command} --out {adapter}"
    lacks = [] if adapter.exists() else [Need("adapter", str(adapter), source)]
    return [run, Run(experiment, dataset, encoder, data, (*needs, *lacks), estimate, "", where, adapter)]
