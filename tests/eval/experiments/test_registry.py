"""Every experiment has a name and registered data sets."""

from eval import datasets
from eval.experiments import registry


def test_every_experiment_names_known_data_sets():
    for experiment in registry().values():
        known = () if experiment.data_kind is None else datasets.names(experiment.data_kind)
        assert set(experiment.datasets) <= set(known)


def test_all_figures_and_tables_of_the_paper_have_a_name():
    wanted = {f"phs-table{n}" for n in ("1", "2", "3", "4", *(f"A{i}" for i in range(1, 8)))}
    wanted |= {f"phs-fig{n}" for n in (3, 4, 5, 6, 7, 8, "A1", "A2", "A3", "A4", "A5")}
    assert wanted <= set(registry())
