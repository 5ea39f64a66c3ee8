"""Models as three stations, embed → recurrence → losses, and the parts that they are built from."""

from ._base import AbstractModel as AbstractModel
from ._head import Head as Head
from ._inputs import (
    AbstractInput as AbstractInput,
    Embedding as Embedding,
    OneHot as OneHot,
    Vectors as Vectors,
)
from ._language import LanguageModel as LanguageModel
from ._losses import (
    AbstractLoss as AbstractLoss,
    BinaryCrossEntropy as BinaryCrossEntropy,
    CrossEntropy as CrossEntropy,
    Linear as Linear,
    SigmoidOutput as SigmoidOutput,
    Softmax as Softmax,
    SquaredError as SquaredError,
)
from ._regression import (
    AbsoluteError as AbsoluteError,
    AbstractRegression as AbstractRegression,
    GaussianLikelihood as GaussianLikelihood,
    Huber as Huber,
    MeanSquaredError as MeanSquaredError,
    Quantiles as Quantiles,
    Regression as Regression,
    regression as regression,
)
from ._forecaster import Forecaster as Forecaster
from ._frames import FrameModel as FrameModel
from ._classifier import SequenceClassifier as SequenceClassifier
from ._sequence import SequenceModel as SequenceModel
