"""Dagster's own assets that stand in the folder of declarations: those that fit beside all others, and those that do not.

Dagster judges, by loading them. One that is wrong takes only itself out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from lakehouse_assets.declarations.loading import Declarations
from lakehouse_assets.declarations.python_file import PythonAsset

Assets = Sequence[dg.AssetsDefinition | dg.AssetSpec]
Checks = Sequence[dg.AssetChecksDefinition]


def keep_fitting(declared: Declarations, others: Assets, resources: Mapping[str, Any]) -> Declarations:
    """What is declared, but for the assets that Dagster does not take beside `others`. Those are shown as broken."""
    if not declared.assets or _refusal(declared.assets, others, resources) is None:
        return declared
    return declared.without_assets(list(_list_refused(declared.assets, others, resources)))


def split_assets(assets: Sequence[PythonAsset]) -> tuple[Assets, Checks]:
    """Assets, and checks, which Dagster wants apart."""
    definitions = [asset.definition for asset in assets]
    checks = [one for one in definitions if isinstance(one, dg.AssetChecksDefinition)]
    return [one for one in definitions if not isinstance(one, dg.AssetChecksDefinition)], checks


def list_sliced(assets: Sequence[PythonAsset]) -> set[dg.AssetKey]:
    """Those that are tables with slices of event time: what comes after such a table waits for its partitions."""
    return {
        spec.key
        for asset in assets
        for spec in getattr(asset.definition, "specs", ())
        if ".".join(spec.key.path) in asset.tables and spec.partitions_def is not None
    }


def _list_refused(
    assets: Sequence[PythonAsset], others: Assets, resources: Mapping[str, Any]
) -> Iterator[tuple[PythonAsset, str]]:
    """One after the other, so that of two that do not go together the second is refused."""
    fitting: list[PythonAsset] = []
    for asset in assets:
        refusal = _refusal([*fitting, asset], others, resources)
        if refusal is None:
            fitting.append(asset)
        else:
            yield asset, refusal


def _refusal(assets: Sequence[PythonAsset], others: Assets, resources: Mapping[str, Any]) -> str | None:
    definitions, checks = split_assets(assets)
    try:
        dg.Definitions.validate_loadable(
            dg.Definitions(assets=[*others, *definitions], asset_checks=checks, resources=resources)
        )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with an asset must not keep the tables from being loaded
        return " ".join(str(error).split()) or type(error).__name__
    return None
