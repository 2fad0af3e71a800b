"""Mistakes in the removal of norms, which the golden removals must notice."""

GOLDEN_REMOVAL = "golden removal*"
REMOVAL = "engine/norm_removal.cpp"
SCHEDULE = "engine/removal_schedule.cpp"
STD = "kernels/cpu/row_std.cpp"

# name, file, text that occurs once, what it becomes
REMOVAL_MISTAKES = [
    ("removal: sigma moves a step too long", REMOVAL,
     "if (step > site.tracks_until) continue;", "if (step > site.tracks_until + 1) continue;"),
    ("removal: sigma stops a step early", REMOVAL,
     "if (step > site.tracks_until) continue;",
     "if (step >= site.tracks_until && site.sigma > 0) continue;"),
    ("removal: sigma begins at 0", REMOVAL,
     "return sigma > 0 ? momentum * sigma + (1 - momentum) * mean : mean;",
     "return momentum * sigma + (1 - momentum) * mean;"),
    ("removal: stds of earlier steps count", REMOVAL,
     "  model_.zero_norm_stds();\n", ""),
    ("removal: a shared sigma stops when queries and keys go", REMOVAL,
     "{NormRole::attention_v, NormRole::attention_qk}", "{NormRole::attention_qk}"),
    ("removal: a shared sigma has the momentum of values", REMOVAL,
     "{NormRole::attention_v, NormRole::attention_qk}",
     "{NormRole::attention_qk, NormRole::attention_v}"),
    ("removal: a shared sigma has the special tokens of queries and keys", REMOVAL,
     "if (values && config_.phases.contains(NormRole::attention_v)) site.source = i;",
     "(void)values;"),
    ("removal: first tokens end with ends of text", REMOVAL,
     "lasts(config_.bos_start)", "lasts(config_.eot_start)"),
    ("removal: one auxiliary target for a pass", REMOVAL,
     ".group = config.auxiliary_group", ".group = 4"),
    ("removal: a norm goes a step late", SCHEDULE,
     "const int64_t begun = step - removal_step(config, role, layer) + 1;",
     "const int64_t begun = step - removal_step(config, role, layer);"),
    ("removal: a gate falls in a straight line", SCHEDULE,
     "return (1 + std::cos(std::numbers::pi * part)) / 2;", "return 1 - part;"),
    ("removal: queries and keys exchanged with values", "models/structure.cpp",
     "    norms.values = add_values_site(structure, *norms.before);\n",
     "    norms.values = add_values_site(structure, *norms.before);\n"
     "    if (norms.values) std::swap(*norms.before, *norms.values);\n"),
    ("removal: no centring in a frozen norm", "kernels/cpu/norm.cpp",
     "x, width, found.mean,\n                gate(found.inverse_std, row), norm);",
     "x, width,\n                gate.live == 0 ? Scalar(0) : found.mean, "
     "gate(found.inverse_std, row), norm);"),
    ("removal: gains decay", "models/parameter.cpp",
     '    vector(name + ".gain", layer, config_.width, 1);\n',
     '    vector(name + ".gain", layer, config_.width, 1);\n    list_.back().decays = true;\n'),
    ("removal: stds count again in backward", "models/model.cpp",
     '"backward of a model for training");\n',
     '"backward of a model for training");\n  if (batch.lengths) add_norm_stds(batch);\n'),
    ("removal: the auxiliary target counts first tokens", STD,
     "for (int64_t token = 1; token < stds.length(sequence)",
     "for (int64_t token = 0; token < stds.length(sequence)"),
    ("removal: the auxiliary target counts ends of text", STD,
     "      if (ids[token] == settings.end_of_text) continue;\n", ""),
    ("removal: filling has a std", STD,
     "return lengths.as<int32_t>()[sequence * lengths.row_stride];",
     "return tokens + 0 * sequence;"),
]

SIGMA_LATE = ("removal: sigma in use is a step late", REMOVAL, [
    ("  set_states(step + 1);\n  tracks_", "  tracks_"),
    ("  const std::vector<NormStdSums> sums =",
     "  set_states(step + 1);\n  const std::vector<NormStdSums> sums ="),
    ("  set_states(step);\n}\n\ndouble", "}\n\ndouble")])

# name, program, tests, file, text that occurs once, what it becomes
SPECIAL_MISTAKES = [
    ("special tokens: they divide as the others do", "test_kernels", "residual_norm: equals*",
     "kernels/cpu/norm.cpp", "(is_special(row) ? given_special : given)", "given"),
    ("special tokens: an id alone is none", "test_kernels", "residual_norm: equals*",
     "kernels/cpu/special_rows.h", " || id == special_.id", ""),
    ("special tokens: their std counts for the others", "test_kernels", "row stds*", STD,
     "totals[is_special(row) ? 1 : 0]", "totals[0]"),
    ("special tokens: every chunk begins with a first one", "test_models",
     "decode: a token that is special*", "models/norm_site.h",
     "state.special_first && pass.first_position == 0", "state.special_first"),
    ("special tokens: a first end of text counts twice", "test_engine",
     "norm removal: tokens are counted*", REMOVAL, " - (first_ends ? 1 : 0)", ""),
    ("special tokens: their phase does not end them", "test_engine",
     "norm removal: special tokens*", REMOVAL, "return start == 0 || step < start;",
     "return true;"),
    ("special tokens: every norm knows ends of text", "test_engine",
     "norm removal: special tokens*", REMOVAL, "values && lasts(config_.eot_start)",
     "lasts(config_.eot_start)"),
]
