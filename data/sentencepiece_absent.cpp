// Built in place of sentencepiece_tokenizer.cpp where the library is not installed.
#include "data/sentencepiece_tokenizer.h"
#include "kernels/error.h"

namespace normlab {

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& file) {
  throw input_error("tokenizer sentencepiece:" + file +
                    " (this build has no SentencePiece). Install libsentencepiece-dev and "
                    "configure and build again");
}

}  // namespace normlab
