// What an export brings along beside weights, config.json and tokenizer.
#pragma once

#include <map>
#include <string>

#include "engine/hugging_face.h"

namespace normlab {

// By file name: README.md, which says what the folder is and how other programs open it; for
// ModelForm::modelling the modelling file; for GPT-2 what loads it into TransformerLens. Nothing
// for ModelForm::own, which is any stock model. Their sources are in engine/exported/.
std::map<std::string, std::string> exported_files(const ModelDescription& description);

}  // namespace normlab
