"""Linear readers in closed form: scikit-learn's, whatever the batches; rates and F1 as it has them."""

import numpy as np
import pytest

from clew.read.linear import READERS, Moments, hits, rates, shares, tally


def planted(count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x_RD with a large mean and odd scales, and codes of 3 classes at 2 units, a tenth without a label."""
    rng = np.random.default_rng(seed)
    class_RU = rng.integers(0, 3, (count, 2))
    x_RD = rng.normal(size=(count, 6)) @ rng.normal(size=(6, 6)) + 0.9 * np.eye(6)[class_RU[:, 0]]
    x_RD += 0.9 * np.eye(6)[class_RU[:, 1] + 3]
    code_RU = np.where(rng.random((count, 2)) < 0.1, 0, 1 << class_RU).astype(np.uint16)
    return (50 + x_RD * [1, 10, 0.1, 1, 3, 1]).astype(np.float32), code_RU


def fitted(x_RD: np.ndarray, code_RU: np.ndarray, batch: int, reader: str = "closed") -> Moments:
    moments = READERS[reader]()
    for at in range(0, len(x_RD), batch):
        moments.add(x_RD[at : at + batch], {("label", "true"): shares(code_RU[at : at + batch], 3)})
    return moments


@pytest.mark.parametrize("batch", [600, 64, 7])
def test_closed_form_is_scikit_learn_s_discriminant(batch: int) -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    x_RD, code_RU = planted()
    moments = fitted(x_RD, code_RU, batch)
    reader = moments.reader(("label", "true"), moments.whitening(0))
    for unit in range(2):
        class_R = np.where(code_RU[:, unit], np.log2(np.maximum(1, code_RU[:, unit])), 3)  # 3: no label
        theirs = analysis.LinearDiscriminantAnalysis(solver="lsqr").fit(x_RD.astype(np.float64), class_R)
        told = theirs.decision_function(x_RD.astype(np.float64))[:, :3]
        mine = x_RD @ reader.coef_UDC[unit] + reader.const_UC[unit]
        np.testing.assert_allclose(mine - mine[:, :1], told - told[:, :1], atol=2e-3)
        assert np.array_equal(reader.predict(x_RD)[:, unit], told.argmax(1))


def test_ridge_and_shared_labels_by_the_plain_formula() -> None:
    x_RD, code_RU = planted()
    code_RU = code_RU | np.roll(code_RU, 5, 0) * (np.arange(600) % 3 == 0)[:, None].astype(np.uint16)
    code_RU[planted()[1] == 0] = 0
    parts_RUC = shares(code_RU, 3)
    assert ((parts_RUC > 0).sum(2) == 2).any() and np.allclose(parts_RUC.sum(2), 1)
    moments = fitted(x_RD, code_RU, 50)
    reader = moments.reader(("label", "true"), moments.whitening(0.05))
    x_RD = x_RD.astype(np.float64)
    for unit in range(2):
        part_RC = parts_RUC[:, unit].astype(np.float64)
        mean_CD = part_RC.T @ x_RD / part_RC.sum(0)[:, None]
        within_DD = sum((part_RC[:, k, None] * (x_RD - mean_CD[k])).T @ (x_RD - mean_CD[k]) for k in range(4)) / len(
            x_RD
        )
        within_DD = within_DD + 0.05 * np.diag(x_RD.var(0))
        coef_DC = np.linalg.solve(within_DD, mean_CD.T)
        told = x_RD @ coef_DC - 0.5 * (mean_CD.T * coef_DC).sum(0) + np.log(part_RC.mean(0))
        mine = x_RD.astype(np.float32) @ reader.coef_UDC[unit] + reader.const_UC[unit]
        np.testing.assert_allclose(mine - mine[:, :1], told[:, :3] - told[:, :1], atol=2e-3)


def test_logistic_is_scikit_learn_s_and_tells_no_more() -> None:
    pytest.importorskip("sklearn")
    x_RD, code_RU = planted(3000)
    right = {}
    for kind in ("closed", "logistic"):
        moments = fitted(x_RD[:2000], code_RU[:2000], 100, kind)
        reader = moments.reader(("label", "true"), moments.whitening())
        tested = hits(reader.predict(x_RD[2000:]), shares(code_RU[2000:], 3))
        right[kind] = rates(tested.sum(0)[None])[0][0]
    assert right["closed"] > 0.45 and abs(right["closed"] - right["logistic"]) < 0.02


@pytest.mark.parametrize("kind", READERS)
def test_classes_that_never_come_are_never_answered(kind: str) -> None:
    pytest.importorskip("sklearn")
    x_RD, code_RU = planted()
    code_RU[:, 0] = np.where(code_RU[:, 0] == 4, 1, code_RU[:, 0])
    code_RU[:, 1] = np.where(code_RU[:, 1], 2, 0)
    moments = fitted(x_RD, code_RU, 100, kind)
    predicted_RU = moments.reader(("label", "true"), moments.whitening()).predict(x_RD)
    assert set(predicted_RU[:, 0]) == {0, 1} and set(predicted_RU[:, 1]) == {1}


def test_majority() -> None:
    x_RD, code_RU = planted()
    moments = fitted(x_RD, code_RU, 100)
    predicted_RU = moments.majority(("label", "true")).predict(x_RD)
    for unit in range(2):
        assert set(predicted_RU[:, unit]) == {int(np.log2(np.bincount(code_RU[:, unit])[1:].argmax() + 1))}


def test_rates_are_scikit_learn_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in (2, 4, 9):
        truth_R, told_R = rng.integers(0, classes, 40), rng.integers(0, classes, 40)
        truth_R[truth_R == 1] = 0
        parts = shares((1 << truth_R).astype(np.uint16)[:, None], classes)
        accuracy, macro = rates(hits(told_R[:, None], parts).sum(0)[None])
        assert accuracy == pytest.approx(metrics.accuracy_score(truth_R, told_R))
        assert macro == pytest.approx(metrics.f1_score(truth_R, told_R, average="macro"))


def test_any_of_several_right_answers_is_a_hit() -> None:
    code_RU = np.array([[0b0101], [0b0101], [0b0101], [0]], np.uint16)
    found = hits(np.array([[0], [2], [1], [3]]), shares(code_RU, 4))
    assert found[0].tolist() == [[1, 0, 0, 0]] * 3 and found[1].tolist() == [[0, 0, 1, 0]] * 3
    assert found[2].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0]] and not found[3].any()
    accuracy, _ = rates(found.sum(0)[None])
    assert accuracy == pytest.approx(2 / 3) and np.isnan(rates(np.zeros((1, 3, 4)))[0])


def test_hits_are_summed_over_the_cases_of_each() -> None:
    rng = np.random.default_rng(3)
    code_RU = rng.integers(0, 16, (60, 5)).astype(np.uint16)
    parts_RUC, told_RU, of_R = shares(code_RU, 4), rng.integers(0, 4, (60, 5)), rng.integers(0, 7, 60)
    summed_M3C = np.zeros((8, 3, 4), np.float32)
    np.add.at(summed_M3C, of_R, hits(told_RU, parts_RUC))
    right_RU, found_M3C = tally(told_RU, parts_RUC, of_R, 8)
    np.testing.assert_allclose(found_M3C, summed_M3C, atol=1e-5)
    assert (right_RU == (code_RU >> told_RU & 1 > 0)).all() and found_M3C.dtype == np.float32
    assert not tally(told_RU[:0], parts_RUC[:0], of_R[:0], 8)[1].any()


def test_a_tally_is_counted_one_by_one() -> None:
    """Cases of the same maze add up, a unit without a label counts nowhere, and a missed answer among several right
    ones is missed by each in part."""
    rng = np.random.default_rng(4)
    code_RU, told_RU, of_R = rng.integers(0, 8, (40, 6)), rng.integers(0, 3, (40, 6)), rng.integers(0, 5, 40)
    counts_M3C = np.zeros((6, 3, 3))
    for code_U, told_U, maze in zip(code_RU.tolist(), told_RU.tolist(), of_R.tolist(), strict=True):
        for code, told in zip(code_U, told_U, strict=True):
            right = [one for one in range(3) if code >> one & 1]
            if not right:
                continue
            counts_M3C[maze, 1, told] += 1
            if told in right:
                counts_M3C[maze, 0, told] += 1
                counts_M3C[maze, 2, told] += 1
            for one in right if told not in right else ():
                counts_M3C[maze, 2, one] += 1 / len(right)
    _, found_M3C = tally(told_RU, shares(code_RU.astype(np.uint16), 3), of_R, 6)
    np.testing.assert_allclose(found_M3C, counts_M3C, atol=1e-5)
    assert not counts_M3C[5].any() and (counts_M3C[:5, 2] % 1 > 0).any()
