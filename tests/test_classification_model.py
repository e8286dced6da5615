import numpy as np
import pytest
import torch

from face4d.classification.model import ExpressionClassifier, logits_of
from tests.test_generation_lstm import recipe_weights


@pytest.fixture
def model() -> ExpressionClassifier:
    network = ExpressionClassifier(10, hidden_size=32, layers=2).eval()
    recipe_weights(network)
    return network


class MixedStates(ExpressionClassifier):
    """The original's defect: the states are reinterpreted without a transpose."""

    def _states(self, flat):
        return flat.reshape(2 * self.layers, len(flat), self.hidden_size)


def test_batch_of_one_equals_the_reference(model, reference):
    vectors = reference("c03_classifier")
    inputs = torch.from_numpy(vectors["inputs"])
    with torch.no_grad():
        np.testing.assert_allclose(model(inputs[:1]).numpy(), vectors["logits_first_alone"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            model.features(inputs[:1]).numpy(), vectors["features_first_alone"], rtol=0, atol=1e-6
        )


def test_samples_of_a_batch_do_not_influence_one_another(model, reference):
    vectors = reference("c03_classifier")
    inputs = torch.from_numpy(vectors["inputs"])
    with torch.no_grad():
        batch, features = model(inputs), model.features(inputs)
        for number in range(3):
            torch.testing.assert_close(batch[number], model(inputs[number : number + 1])[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(
                features[number], model.features(inputs[number : number + 1])[0], rtol=0, atol=1e-6
            )
        torch.testing.assert_close(model(inputs[[2, 0, 1]]), batch[[2, 0, 1]], rtol=0, atol=1e-6)


def test_the_original_mixed_batch_members_and_this_one_does_not(model, reference):
    vectors = reference("c03_classifier")
    inputs = torch.from_numpy(vectors["inputs"])
    mixed = MixedStates(10, hidden_size=32, layers=2).eval()
    mixed.load_state_dict(model.state_dict())
    with torch.no_grad():
        np.testing.assert_allclose(mixed(inputs).numpy(), vectors["logits"], rtol=0, atol=1e-6)
        assert np.abs(model(inputs).numpy() - vectors["logits"]).max() > 1e-4


def test_features_are_the_time_mean_and_lengths_may_vary(model):
    inputs = 0.01 * torch.randn(2, 9, 68, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert model.features(inputs).shape == (2, 64)
        torch.testing.assert_close(model(inputs), model.fc_classification(model.features(inputs)))
        assert model(inputs[:, :1]).shape == model(inputs[:, :5]).shape == (2, 10)


def test_input_scale_multiplies_displacements(model):
    scaled = ExpressionClassifier(10, hidden_size=32, layers=2, input_scale=4.0).eval()
    scaled.load_state_dict(model.state_dict())
    inputs = 0.01 * torch.randn(2, 9, 68, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(scaled(inputs), model(4 * inputs))


def test_a_gradient_reaches_every_weight(model):
    inputs = torch.randn(4, 7, 68, 3, generator=torch.Generator().manual_seed(3))
    torch.nn.functional.cross_entropy(model(inputs), torch.tensor([0, 3, 5, 9])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_logits_of_needs_no_gradient_and_does_not_depend_on_the_batch_size(model):
    inputs = torch.randn(5, 7, 68, 3, generator=torch.Generator().manual_seed(4))
    logits = logits_of(model, inputs, batch_size=2)
    assert not logits.requires_grad
    torch.testing.assert_close(logits, logits_of(model, inputs), rtol=0, atol=1e-6)


def test_other_topologies_have_their_own_number_of_points():
    assert ExpressionClassifier(3, 8, num_landmarks=5)(torch.zeros(2, 4, 5, 3)).shape == (2, 3)
    with pytest.raises(RuntimeError):
        ExpressionClassifier(3, 8, num_landmarks=5)(torch.zeros(2, 4, 6, 3))
