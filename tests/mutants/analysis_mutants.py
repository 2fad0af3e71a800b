"""Mistakes in what is measured of a model's layers, which their tests must notice."""

GOLDEN_DEPTH = "depth: variances*"
BY_HAND = "stream statistics*"
LINEAR = "depth: the Jacobian of a linear layer*"
AUTOGRAD = "depth: distances of Jacobians*"
GOLDEN_STEP = "diagnostics: variances*"
FIRST_UPDATE = "diagnostics: Adam's first update*"
CHART = "chart: larger numbers*"
STATISTICS = "engine/analysis/stream_statistics.cpp"
DEPTH = "engine/analysis/depth.cpp"
JACOBIAN = "engine/analysis/jacobian.cpp"
RECURSIONS = "engine/analysis/recursions.cpp"
STEP = "engine/analysis/step_diagnostics.cpp"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
ANALYSIS_MISTAKES = [
    ("variance: of a sample", "test_engine", BY_HAND, STATISTICS,
     "return squares / count;", "return squares / (count - 1);"),
    ("variance: the mean stays in", "test_engine", BY_HAND, STATISTICS,
     "(value - mean) * (value - mean)", "value * value"),
    ("angle: a cosine above 1", "test_engine", BY_HAND, STATISTICS,
     "std::clamp(dot / (norm_x * norm_y), -1.0, 1.0)", "(dot / (norm_x * norm_y))"),
    ("angle: in radians", "test_engine", BY_HAND, STATISTICS,
     "-1.0, 1.0)) / std::numbers::pi", "-1.0, 1.0))"),
    ("angle: of a stream with the one before it", "test_engine", GOLDEN_DEPTH, STATISTICS,
     "dot(states[layer], states[layer + n])", "dot(states[layer], states[layer + n - 1])"),
    ("reference: before the final norm", "test_engine", GOLDEN_DEPTH, STATISTICS,
     "layer + n < layers ? states[layer + n] : final", "states[layer + n]"),
    ("reference: rows are not clipped", "test_engine", BY_HAND, STATISTICS,
     "percentile(sorted, 1), high = percentile(sorted, 99)",
     "percentile(sorted, 0), high = percentile(sorted, 100)"),
    ("reference: all tokens", "test_engine", GOLDEN_DEPTH, DEPTH,
     "if (position == host.tokens_per_sequence - 1) reference_", "reference_"),
    ("depth: filling counts", "test_engine", GOLDEN_DEPTH, DEPTH,
     "if (position >= host.lengths[sequence]) return;", ""),
    ("depth: nothing is left out", "test_engine", GOLDEN_DEPTH, DEPTH,
     "forward_from(layer + 1, keeper_.state(layer, rows)",
     "forward_from(layer, keeper_.state(layer, rows)"),
    ("depth: what is left out stays in", "test_engine", GOLDEN_DEPTH, DEPTH,
     "forward_from(layer + 1, keeper_.state(layer, rows)",
     "forward_from(layer + 1, keeper_.state(layer + 1, rows)"),
    ("depth: sums of losses are means of batches", "test_engine", GOLDEN_DEPTH, DEPTH,
     "    return sum;", "    return sum / static_cast<double>(batch.tokens.elements());"),
    ("depth: the Jacobian's tokens do not end", "test_engine", "depth: batches change*", DEPTH,
     "result_.jacobian_tokens < options_.jacobian_tokens", "true"),
    ("jacobian: a step of 2h over h", "test_engine", LINEAR, JACOBIAN, "/ (2 * h)", "/ h"),
    ("jacobian: the identity stays in", "test_engine", "depth: layers that add nothing*", JACOBIAN,
     "sums.mean[i] / tokens - direction[i]", "sums.mean[i] / tokens"),
    ("jacobian: signs are forgotten in the mean", "test_engine", LINEAR, JACOBIAN,
     "sums.mean[i] += sign * slope;", "sums.mean[i] += slope;"),
    ("jacobian: all tokens move together", "test_engine", AUTOGRAD, JACOBIAN,
     "[0] >> 31 != 0 ? 1 : -1", "[0] >> 31 != 0 ? 1 : 1"),
    ("jacobian: filling counts", "test_engine", "depth: filling has*", JACOBIAN,
     "if (row % tokens >= host.lengths[static_cast<size_t>(row / tokens)]) continue;", ""),
    ("jacobian: steps as large as the streams", "test_engine", AUTOGRAD, JACOBIAN,
     "const double h = relative_step(x.dtype) *", "const double h ="),
    ("jacobian: a direction that is not of length 1", "test_engine", LINEAR, JACOBIAN,
     "for (double& element : direction) element /= std::sqrt(squares);", ""),
    ("forward_layers goes on to the last layer", "test_models", "Model: layers in parts*",
     "models/model.cpp", "run_layers(pass, first, end);",
     "run_layers(pass, first, config_.layers);"),
    ("recursion: √l dropped", "test_engine", "recursions: lemma 4.1*", RECURSIONS,
     "std::sqrt(variance / static_cast<double>(layer))", "std::sqrt(variance)"),
    ("recursion: in σ, not in σ²", "test_engine", "recursions: lemma 3.2*", RECURSIONS,
     "      return std::sqrt(variance);", "      return variance;"),
    ("recursion: layers are counted from 0", "test_engine", "recursions: the constant*", RECURSIONS,
     "first + static_cast<int64_t>(i))", "static_cast<int64_t>(i))"),
    ("recursion: a mean of ratios", "test_engine", "recursions: the constant*", RECURSIONS,
     "    squares += g * g;", "    squares += g;"),
    ("theorem 4.2: l is squared once too little", "test_engine", "recursions: the products*",
     RECURSIONS, "b * inverse * inverse", "b * inverse * inverse * weight"),
    ("diagnostics: filling counts", "test_engine", GOLDEN_STEP, STEP,
     "if (!counts_[row]) continue;", ""),
    ("diagnostics: the input's variance", "test_engine", GOLDEN_STEP, STEP,
     "population_variance(output)", "population_variance(input)"),
    ("diagnostics: a gradient's sum", "test_engine", GOLDEN_STEP, STEP,
     "found.gradient_norm.push_back(std::sqrt(gradients[layer]));",
     "found.gradient_norm.push_back(gradients[layer]);"),
    ("diagnostics: rounded weights hide what masters do", "test_engine", FIRST_UPDATE, STEP,
     "optimizer.masters() ? optimizer.masters() : model.values()", "model.values()"),
    ("diagnostics: a step late", "test_tools", "diagnostics: every so many*",
     "engine/training_steps.cpp",
     "every > 0 && (state_.step + 1) % every == 0", "every > 0 && state_.step % every == 0"),
    ("chart: upside down", "test_engine", CHART, "engine/analysis/chart.cpp",
     "from_ + share * (to_ - from_)", "to_ + share * (from_ - to_)"),
    ("chart: a logarithmic axis of 0", "test_engine", CHART, "engine/analysis/chart.cpp",
     "std::isfinite(value) && (scale_ == Scale::linear || value > 0)", "true"),
    ("heat map: bright for far", "test_engine", "heat map*", "engine/analysis/heat_map.cpp",
     "(1 - std::clamp(share, 0.0, 1.0))", "std::clamp(share, 0.0, 1.0)"),
    ("page: a name is markup", "test_engine", "depth page*", "engine/analysis/svg.cpp",
     'out += "&lt;";', 'out += "<";'),
]
