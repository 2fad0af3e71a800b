// Asks for a SentencePiece tokenizer of a build without the library; prints what the error says.
#include <iostream>

#include "data/sentencepiece_tokenizer.h"
#include "kernels/error.h"

int main() {
  try {
    normlab::make_sentencepiece_tokenizer("tokenizer.model");
  } catch (const normlab::Error& error) {
    if (error.kind() == normlab::ErrorKind::input) std::cout << error.what() << "\n";
  }
}
