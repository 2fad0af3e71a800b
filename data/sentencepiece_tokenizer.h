// SentencePiece models, through the library where the build found it.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace normlab {

// From a model file. Throws an input Error for one that is missing or damaged, or where the build
// has no SentencePiece.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& file);

}  // namespace normlab
