#include "engine/fold.h"

#include "catch.h"
#include "engine/export_check.h"
#include "frozen_model.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("fold: a model without norms has the logits of the one whose norms were frozen") {
  for (const auto& [name, config] : foldable_configs()) {
    for (const StdSharing sharing : {StdSharing::shared, StdSharing::separate}) {
      INFO(name);
      CheckedModel frozen(config, norms_in_states(config, {0}, sharing));
      CheckedModel folded(folded_config(config), {});
      CHECK(folded.model.norm_sites().empty());
      const std::vector<float> expected = logits_of(frozen.model);
      CHECK(difference_of(logits_of(folded.model), expected) > 0.1);
      fold_norms(folded.model, frozen.model);
      // Measured: 4e-7 at most.
      CHECK(difference_of(logits_of(folded.model), expected) < 3e-6);
    }
  }
}

TEST_CASE("fold: LayerNorms leave biases and a head's, RMSNorms none") {
  for (const auto& [name, config] : foldable_configs()) {
    INFO(name);
    const ModelConfig folded = folded_config(config);
    const bool centres = config.norm.kind == NormKind::layernorm;
    CHECK(folded.head_bias == centres);
    CHECK(folded.biases == (centres ? Biases::all : config.biases));
    CHECK(!folded.tie_embeddings);
    CHECK(folded.norm.placement == NormPlacement::none);
    // What is folded already stays as it is.
    CHECK(folded_config(folded).head_bias == centres);
  }
}

TEST_CASE("fold: a model without norms is copied, a norm that is not frozen is not folded") {
  const ModelConfig config = folded_config(small_config(Family::gpt2));
  CheckedModel one(config, {}), other(config, {});
  other.model.initialize(3);
  fold_norms(other.model, one.model);
  CHECK(logits_of(other.model) == logits_of(one.model));
  const ModelConfig with_norms = small_config(Family::gpt2);
  CheckedModel tapering(with_norms, norms_in_states(with_norms, {0, 0, 0, 0.5}));
  CHECK_THROWS_AS(fold_norms(other.model, tapering.model), Error);
}
