"""Mistakes in the scoring of multiple choice, which its tests must notice."""

TESTS = "test_engine"
SCORING = "engine/multiple_choice.cpp"
HARNESS = "multiple choice: everything*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
MULTIPLE_CHOICE_MISTAKES = [
    ("multiple choice: no space before the choice", TESTS, HARNESS, SCORING,
     'std::string(query) + " " + std::string(choice)', "std::string(query) + std::string(choice)"),
    ("multiple choice: white space stays with the query", TESTS, HARNESS, SCORING,
     "text.remove_suffix(space->size());", "return text;"),
    ("multiple choice: the target is the token itself", TESTS, "multiple choice: log-likelihoods*",
     SCORING, "request.tokens[place + 1] : -1", "request.tokens[place] : -1"),
    ("multiple choice: a target too many", TESTS, "multiple choice: log-likelihoods*", SCORING,
     "i >= length - request.scored", "i >= length - request.scored - 1"),
    ("multiple choice: cut at the end", TESTS, "multiple choice: a query that is too long*",
     SCORING,
     "tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(longest));",
     "tokens.resize(longest);"),
    ("multiple choice: one token of context is lost", TESTS,
     "multiple choice: a query that is too long*", SCORING,
     "static_cast<size_t>(context + 1)", "static_cast<size_t>(context)"),
    ("multiple choice: acc_norm by bytes", TESTS, "multiple choice: characters and bytes*", SCORING,
     "(static_cast<unsigned char>(byte) & 0xC0) != 0x80", "byte != 0"),
    ("multiple choice: n instead of n − 1", TESTS, HARNESS, SCORING,
     "std::sqrt(squares / (count - 1))", "std::sqrt(squares / count)"),
    ("multiple choice: a begin-of-text twice", TESTS, "multiple choice: begin-of-text*", SCORING,
     "if (tokens.empty() || tokens.front() != begin) ", ""),
    ("multiple choice: SentencePiece's end of text before an empty query", TESTS, HARNESS,
     "data/sentencepiece_tokenizer.cpp",
     "return processor_.bos_id() >= 0 ? processor_.bos_id() : processor_.eos_id();",
     "return processor_.eos_id();"),
    ("questions: gold one too large", TESTS, "questions: what is wrong*", "engine/questions.cpp",
     "gold.get<uint64_t>() < choices.size()", "gold.get<uint64_t>() <= choices.size()"),
]
