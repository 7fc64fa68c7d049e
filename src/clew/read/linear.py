"""Linear readers in closed form, from sums alone: memory does not grow with what is read.

A reader is linear discriminant analysis (Fisher 1936; Rao 1948): the classes' means, one covariance within all of
them, and the classes' shares. Where the classes are Gaussian with one covariance no reader is better, and it is what
logistic regression estimates by iteration; for two classes its direction is that of least squares, and for more it
does not lose the middle ones, as least squares does (Hastie, Tibshirani, Friedman 2009, 4.2-4.4). All labels, all
their shuffles and all cells of a grid share the one matrix of products, so that thousands of readers cost little more
than one.
"""

from dataclasses import dataclass, field

import numpy as np

RIDGE, MOST_HELD = 1e-3, 20_000
Task = tuple[str, str]
"""a label, and which of its versions: true, shuffled or retargeted"""


def shares(code_RU: np.ndarray, classes: int) -> np.ndarray:
    """float32 (R, U, C + 1): each case's parts in the classes of its code; the last class is that of no label."""
    bits_RUC = (code_RU[..., None] >> np.arange(classes, dtype=np.uint16)) & 1
    out_RUC = np.empty((*code_RU.shape, classes + 1), np.float32)
    out_RUC[..., :-1] = bits_RUC / np.maximum(1, bits_RUC.sum(-1, keepdims=True))
    out_RUC[..., -1] = code_RU == 0
    return out_RUC


@dataclass(frozen=True)
class Reader:
    """Scores of C classes at U units are x_RD @ coef_UDC[u] + const_UC[u]; -inf for a class that was never seen."""

    coef_UDC: np.ndarray
    const_UC: np.ndarray

    def predict(self, x_RD: np.ndarray) -> np.ndarray:
        """int64 (R, U): the class with the best score."""
        units, width, classes = self.coef_UDC.shape
        flat_DN = self.coef_UDC.transpose(1, 0, 2).reshape(width, units * classes)
        return ((x_RD @ flat_DN).reshape(len(x_RD), units, classes) + self.const_UC).argmax(2)


@dataclass
class Moments:
    """Sums over cases x_RD from which readers of any number of tasks follow."""

    count: int = 0
    shift_D: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """near the mean of x, so that products lose no digits"""
    sum_D: np.ndarray = field(default_factory=lambda: np.zeros(0))
    products_DD: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    sums: dict[Task, np.ndarray] = field(default_factory=dict)
    """by task (U, C + 1, D): sums of x over the cases of each class, by their parts in it; the last has no label"""
    counts: dict[Task, np.ndarray] = field(default_factory=dict)
    """(U, C + 1): how many cases those are"""

    def add(self, x_RD: np.ndarray, parts: dict[Task, np.ndarray]) -> None:
        """R cases, float32, with their parts (R, U, C + 1) in the classes of each task: see `shares`."""
        if not len(x_RD):
            return
        if not self.count:
            width = x_RD.shape[1]
            self.shift_D = x_RD.mean(0)
            self.sum_D, self.products_DD = np.zeros(width), np.zeros((width, width))
        x_RD = x_RD.astype(np.float64) - self.shift_D
        self.count += len(x_RD)
        self.sum_D += x_RD.sum(0)
        self.products_DD += x_RD.T @ x_RD
        for task, parts_RUC in parts.items():
            of_RN = parts_RUC.reshape(len(x_RD), -1)
            sums_UCD = (of_RN.T @ x_RD).reshape(*parts_RUC.shape[1:], -1)
            if task not in self.sums:
                self.sums[task], self.counts[task] = np.zeros(sums_UCD.shape), np.zeros(sums_UCD.shape[:2])
            self.sums[task] += sums_UCD
            self.counts[task] += parts_RUC.sum(0)

    def whitening(self, ridge: float = RIDGE) -> np.ndarray:
        """(D, D): W with W T W' = I, where T is the covariance of x with `ridge` times its own diagonal added to it."""
        mean_D = self.sum_D / self.count
        return whitening_of(self.products_DD / self.count - np.outer(mean_D, mean_D), ridge)

    def reader(self, task: Task, whitening_DD: np.ndarray) -> Reader:
        """The readers of one task at all of its units.

        Cases without a label are a class of their own in the covariance, and one that is never answered: so the
        covariance of all cases, T, serves every task, and the one within classes is T less the spread of their means
        m: W = T - sum of n/N m m'. Its inverse is Woodbury's, from a matrix as large as there are classes.
        """
        count_UC = self.counts[task]
        share_UC = count_UC / self.count
        mean_UCD = self.sums[task] / np.maximum(count_UC, 1e-9)[..., None]
        mean_UCD = (mean_UCD - self.sum_D / self.count) @ whitening_DD.T
        scaled_UCD = mean_UCD * np.sqrt(share_UC)[..., None]
        inner_UCC = np.eye(count_UC.shape[1]) - scaled_UCD @ scaled_UCD.transpose(0, 2, 1)
        lift_UCC = np.linalg.solve(inner_UCC, scaled_UCD @ mean_UCD.transpose(0, 2, 1))
        solved_UCD = mean_UCD + lift_UCC.transpose(0, 2, 1) @ scaled_UCD
        with np.errstate(divide="ignore"):
            const_UC = np.log(share_UC) - 0.5 * (solved_UCD * mean_UCD).sum(2)
        coef_UCD = (solved_UCD @ whitening_DD)[:, :-1]
        const_UC = const_UC[:, :-1] - coef_UCD @ (self.shift_D + self.sum_D / self.count)
        return Reader(coef_UCD.transpose(0, 2, 1).astype(np.float32), const_UC.astype(np.float32))

    def majority(self, task: Task) -> Reader:
        """Always the class that is most frequent at the unit."""
        count_UC = self.counts[task][:, :-1]
        return Reader(np.zeros((len(count_UC), len(self.sum_D), count_UC.shape[1]), np.float32), count_UC)


def whitening_of(cov_DD: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """(D, D): W with W T W' = I, where T is a covariance with `ridge` times its own diagonal added to it; so W' W is
    the inverse of T."""
    spread_D = np.sqrt(np.maximum(np.diag(cov_DD), 1e-10 * max(1e-10, np.diag(cov_DD).max(initial=0))))
    cov_DD = cov_DD / np.outer(spread_D, spread_D) + max(ridge, 1e-9) * np.eye(len(spread_D))
    return np.linalg.solve(np.linalg.cholesky(cov_DD), np.diag(1 / spread_D))


@dataclass
class Logistic(Moments):
    """The same from scikit-learn's LogisticRegression, of the first MOST_HELD cases, which it keeps: to see that the
    closed form loses nothing. A case with several right classes is one case of each, weighted by its parts."""

    held_x: list[np.ndarray] = field(default_factory=list)
    held: dict[Task, list[np.ndarray]] = field(default_factory=dict)

    def add(self, x_RD: np.ndarray, parts: dict[Task, np.ndarray]) -> None:
        super().add(x_RD, parts)
        room = MOST_HELD - sum(map(len, self.held_x))
        self.held_x.append(x_RD[:room])
        for task, parts_RUC in parts.items():
            self.held.setdefault(task, []).append(parts_RUC[:room])

    def reader(self, task: Task, whitening_DD: np.ndarray) -> Reader:
        mean_D = self.shift_D + self.sum_D / self.count
        white_RD = (np.concatenate(self.held_x) - mean_D) @ whitening_DD.T
        parts_RUC = np.concatenate(self.held[task])
        units, classes = parts_RUC.shape[1], parts_RUC.shape[2] - 1
        coef_UCD, const_UC = np.zeros((units, classes, white_RD.shape[1])), np.full((units, classes), -np.inf)
        for unit in range(units):
            _logistic(white_RD, parts_RUC[:, unit, :-1], coef_UCD[unit], const_UC[unit])
        coef_UCD = coef_UCD @ whitening_DD
        const_UC = const_UC - coef_UCD @ mean_D
        return Reader(coef_UCD.transpose(0, 2, 1).astype(np.float32), const_UC.astype(np.float32))


def _logistic(x_RD: np.ndarray, parts_RC: np.ndarray, coef_CD: np.ndarray, const_C: np.ndarray) -> None:
    """Fits one reader into its coefficients and constants; those of classes that never come stay as they are."""
    from sklearn.linear_model import LogisticRegression

    case_N, class_N = np.nonzero(parts_RC)
    if len(np.unique(class_N)) < 2:
        const_C[class_N] = 0
        return
    fitted = LogisticRegression(max_iter=200).fit(x_RD[case_N], class_N, sample_weight=parts_RC[case_N, class_N])
    two = len(fitted.classes_) == 2
    coef_CD[fitted.classes_] = np.concatenate([-fitted.coef_, fitted.coef_]) / 2 if two else fitted.coef_
    const_C[fitted.classes_] = np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2 if two else fitted.intercept_


READERS = {"closed": Moments, "logistic": Logistic}


def hits(predicted_RU: np.ndarray, parts_RUC: np.ndarray) -> np.ndarray:
    """float32 (R, 3, C): of each case, over its units, right answers, answers and right classes, by class.

    An answer among several right classes is a hit, and its class the right one; where it is none of them, each counts
    in equal parts as missed. A unit without a label counts nowhere.
    """
    labelled_RU = parts_RUC[..., -1] == 0
    answer_RUC = np.eye(parts_RUC.shape[2] - 1, dtype=np.float32)[predicted_RU] * labelled_RU[..., None]
    right_RUC = answer_RUC * (parts_RUC[..., :-1] > 0)
    truth_RUC = np.where(right_RUC.any(2, keepdims=True), right_RUC, parts_RUC[..., :-1])
    return np.stack([right_RUC.sum(1), answer_RUC.sum(1), truth_RUC.sum(1)], 1)


def tally(
    predicted_RU: np.ndarray, parts_RUC: np.ndarray, of_R: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """bool (R, U): which units were told rightly; and float32 (count, 3, C): `hits`, summed over the cases of each of
    so many, whose numbers are of_R."""
    classes = parts_RUC.shape[2] - 1
    labelled_RU = parts_RUC[..., -1] == 0
    right_RU = np.take_along_axis(parts_RUC, predicted_RU[..., None], 2)[..., 0] > 0
    cell_RU, size = of_R[:, None] * classes + predicted_RU, count * classes
    right_MC, answered_MC = (
        np.bincount(cell_RU[some_RU], minlength=size).reshape(count, classes) for some_RU in (right_RU, labelled_RU)
    )
    case_N, unit_N = np.nonzero(labelled_RU & ~right_RU)
    missed_NC = parts_RUC[case_N, unit_N, :-1]
    missed_MC = np.stack([np.bincount(of_R[case_N], missed_NC[:, n], count) for n in range(classes)], 1)
    return right_RU, np.stack([right_MC, answered_MC, right_MC + missed_MC], 1).astype(np.float32)


def rates(counts_M3C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy (M,) and macro-F1 (M,) from counts as `hits` has them; NaN where nothing was to be told. The mean of
    the F1 of those classes that were right or were answered, as scikit-learn's `f1_score(average="macro")`."""
    right_MC, answered_MC, truth_MC = (counts_M3C[:, n] for n in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy_M = right_MC.sum(1) / truth_MC.sum(1)
        there_MC = answered_MC + truth_MC > 0
        f1_MC = np.where(there_MC, 2 * right_MC / (answered_MC + truth_MC), 0)
        return accuracy_M, f1_MC.sum(1) / there_MC.sum(1)
