// A document from a line of JSON.
#pragma once

#include <string>

#include "data/document_source.h"

namespace normlab {

// Sets what the options ask for: the text, or the ids. As Python's json and tiktoken do, an escaped
// half of a surrogate pair without its other half becomes U+FFFD, and of equal keys the last
// counts. Throws an input Error without a place; of the line it quotes a part only.
void parse_json_line(Document& document, std::string& line, const SourceOptions& options);

}  // namespace normlab
