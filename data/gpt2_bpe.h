// GPT-2's byte-level BPE.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace normlab {

// From vocab.json and merges.txt in a folder. Its ids are those of tiktoken's encode_ordinary: what
// looks like a special token in a text is text. Bytes that are no UTF-8 are U+FFFD, as Python's
// decoder replaces them. Throws an input Error for files that are missing or damaged.
std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory);

}  // namespace normlab
