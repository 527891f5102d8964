"""Cross-encoders: models that read a query and a document together."""

from collections.abc import Sequence

from inference.loaded import Loaded, Matrix, Placement
from inference.tokens import Tokenised


class CrossEncoder(Loaded):
    """A model that reads a query and a document together and gives one score.

    Args:
        model: a local folder, or a name that is fetched from the hub.

    Raises: ValueError: the model gives another number of scores.
    """

    def __init__(self, model: str, placement: Placement) -> None:
        super().__init__("CrossEncoder", model, placement)
        if self._model.num_labels != 1:
            raise ValueError(
                f"{model} gives {self._model.num_labels} scores a pair: choose a reranker, which gives one"
            )
        # Scores have no direction, so a faster format can't be judged by a cosine: what was trained stays.
        self.use("float32" if placement.dtype == "auto" else placement.dtype)

    def compute(self, batch: Sequence[Tokenised]) -> Matrix:
        """Scores of pairs. Returns: float32[len(batch)], as the model's own last function leaves them."""
        with self._torch.inference_mode():
            scores = self._model.activation_fn(self.forward(batch)["scores"].float())
            row: Matrix = scores.reshape(len(batch)).cpu().numpy()
        return row
