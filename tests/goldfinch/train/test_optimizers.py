"""Which optimiser takes which parameter."""

from __future__ import annotations

from dataclasses import replace

from goldfinch.models.language_model import LanguageModel
from goldfinch.train.optimizers import build_optimizers
from goldfinch.train.recipe import Recipe


def test_muon_orthogonalises_matrices_only(recipe: Recipe) -> None:
    model = LanguageModel(recipe.model)
    of_matrices, rest = build_optimizers(model, replace(recipe, optimizer="muon"))
    matrices = {id(p) for group in of_matrices.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in matrices}
    assert "blocks.0.att.receptance.weight" in names
    assert not names & {"emb.weight", "head.weight", "w_kv_cache_a.weight", "blocks.0.att.time_maa_w1"}
    others = {id(p) for group in rest.param_groups for p in group["params"]}
    assert matrices | others == {id(p) for p in model.parameters()}
    assert not matrices & others
