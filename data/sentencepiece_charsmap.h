// The part of a SentencePiece model that the library follows without looking where it leads: the
// tables by which texts are normalised.
#pragma once

#include <string_view>

namespace normlab {

// Whether every table in a model file (a serialized ModelProto; its normalizer_spec and
// denormalizer_spec have one each) stays within its own bytes, whatever the text.
bool charsmaps_are_sound(std::string_view model);

}  // namespace normlab
