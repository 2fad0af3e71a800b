// Prompts with completions, and chats: what of a line of JSON is read, and what is to be learnt.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "data/document_source.h"

namespace normlab {

// Of {"prompt": text, "completion": text} the completion is to be learnt. Of {"messages": [{"role":
// "system" | "user" | "assistant", "content": text}, …]} the contents of the assistant's turns are:
// before each turn stands the text of its role, behind those of system and user a line break; what
// follows the last turn of the assistant is left out. Other keys are not looked at. Throws an input
// Error without a place for anything else, and for an empty text to learn.
std::vector<DocumentPart> read_parts(const nlohmann::json& object, const ChatRoles& roles);

}  // namespace normlab
