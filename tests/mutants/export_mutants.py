"""Mistakes in models without norms and in their exports, which their tests must notice."""

GRADIENTS = "model gradients: every other*"
FOLDED = "fold: a model without norms has*"
STOCK = "ln-free: norms that compute*"
READ_AGAIN = "ln-free: what is read again*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
EXPORT_MISTAKES = [
    ("the head's bias has no gradient", "test_models", GRADIENTS, "models/model.cpp",
     "pass.gradient(structure_.head_bias)", "Tensor{}"),
    ("the head's bias is not added", "test_models", GRADIENTS, "models/model.cpp",
     "value(structure_.head_bias)", "ConstTensor{}"),
    ("a model without norms keeps the final one", "test_models", "norm_plan: none*",
     "models/norm_plan.cpp", "if (config.placement != NormPlacement::none) {", "{"),
    ("fold: centring left out", "test_engine", FOLDED, "engine/fold.cpp",
     "mean = centres_ ? mean / static_cast<double>(columns) : 0;", "mean = 0;"),
    ("fold: RMSNorm is centred", "test_engine", FOLDED, "engine/fold.cpp",
     "mean = centres_ ? mean / static_cast<double>(columns) : 0;",
     "mean /= static_cast<double>(columns);"),
    ("fold: the norm's bias is lost", "test_engine", FOLDED, "engine/fold.cpp",
     "shifted += weight[i] * shift_[i];", ""),
    ("fold: values take the norm of queries and keys", "test_engine", FOLDED, "engine/fold.cpp",
     "norm_at(NormRole::attention_v, layer)", "norm_at(NormRole::attention_qk, layer)"),
    ("fold: a tapering norm is folded", "test_engine", "fold: a model without norms is copied*",
     "engine/fold.cpp", "site.state.gate == 0 &&", ""),
    ("ln-free: values keep the σ of queries", "test_engine", STOCK, "engine/ln_free.cpp",
     "move_ratios(stock, norms, Direction::into_values, {});", ""),
    ("ln-free: the values' bias takes all of the norm's", "test_engine", STOCK,
     "engine/ln_free.cpp", "(1 - ratio) * sum", "sum"),
    ("ln-free: the ratio stays in the values when read", "test_engine", READ_AGAIN,
     "engine/weights.cpp", "if (ln_free) restore_values(model, description.norms, masters);", ""),
    ("ln-free: gains stay scaled when read", "test_engine", READ_AGAIN, "engine/weights.cpp",
     "if (factor != 1) {", "if (factor < 0) {"),
    ("ln-free: an epsilon of 1e6 is none", "test_engine", "config.json: an epsilon*",
     "engine/hugging_face_reader.cpp", ": !(config.norm.epsilon >= kLnFreeEpsilon)",
     ": !(config.norm.epsilon > kLnFreeEpsilon)"),
    ("config.json: the head's bias is forgotten", "test_engine",
     "config.json: a model without norms*", "engine/hugging_face_reader.cpp",
     "description.config.head_bias = own.value(\"head_bias\", false);", ""),
    ("export: what was written is not compared", "test_engine", "export: what does not compute*",
     "engine/export.cpp", "if (!(difference <= allowed)) {", "if (difference < 0) {"),
    ("export: a small s passes", "test_engine", "export: a format that cannot*",
     "engine/export.cpp", "if (difference <= kExactDifference) return;", "return;"),
    ("export: hf-ln-free of a tapering norm", "test_engine", "export: a format that cannot*",
     "engine/export.cpp", "if (norm.state.gate == 0) continue;", "if (norm.state.gate < 1) continue;"),
]
