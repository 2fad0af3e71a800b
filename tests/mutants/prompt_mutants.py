"""Mistakes in prompts with completions, which their tests must notice."""

DATA = "test_data"
PROMPTS = "data/prompts.cpp"
READER = "data/text_reader.cpp"
STREAM = "data/token_stream.cpp"
CORPUS = "data/token_corpus.cpp"
EPOCH = "prompts: over an epoch*"
FORMS = "prompts: a completion*,prompts: of a chat*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
PROMPT_MISTAKES = [
    ("prompts: all tokens are targets", DATA, EPOCH, STREAM,
     "    if (!corpus_.is_learnt(source.begin + static_cast<int64_t>(i) + 1)) continue;\n", ""),
    ("prompts: a token is a target where the one before it is learnt", DATA, EPOCH, STREAM,
     "source.begin + static_cast<int64_t>(i) + 1)", "source.begin + static_cast<int64_t>(i))"),
    ("prompts: a window is masked as the first one", DATA, EPOCH, STREAM,
     "source.begin + static_cast<int64_t>(i) + 1)", "static_cast<int64_t>(i) + 1)"),
    ("prompts: no end of text behind a completion", DATA, FORMS, READER,
     "      if (part.learnt) add_end();\n", ""),
    ("prompts: the end of text is not learnt", DATA, FORMS, READER,
     "      if (part.learnt) add_end();\n"
     "      learnt_.resize(tokens_.size(), part.learnt ? 1 : 0);\n",
     "      learnt_.resize(tokens_.size(), part.learnt ? 1 : 0);\n"
     "      if (part.learnt) add_end();\n      learnt_.resize(tokens_.size(), 0);\n"),
    ("prompts: what is learnt is not part of the hash", DATA, "prompts: what is learnt is part*",
     CORPUS, "  hash_ = XXH3_64bits_withSeed(learnt_.data(), learnt_.size(), hash_);\n", ""),
    ("prompts: a turn of the user's at the end stays", DATA, FORMS, PROMPTS,
     "    if (!parts_.empty() && !parts_.back().learnt) parts_.pop_back();\n", ""),
    ("prompts: the assistant's turn has no name before it", DATA, FORMS, PROMPTS,
     "      parts.prompt(roles.assistant);\n", ""),
    ("prompts: the system speaks as the user", DATA, FORMS, PROMPTS,
     'role == "user" ? roles.user : roles.system', "roles.user"),
    ("prompts: a row shows one token less", DATA, "prompts: examples that are cut*", STREAM,
     "std::min(end, begin + tokens_per_sequence + 1)", "std::min(end, begin + tokens_per_sequence)"),
]
