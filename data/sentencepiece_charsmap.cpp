#include "data/sentencepiece_charsmap.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace normlab {
namespace {

// Takes bytes from the front of a protocol buffer; `sound` turns false where they do not suffice.
struct Reader {
  std::string_view bytes;
  bool sound = true;

  std::string_view take(uint64_t size) {
    if (size > bytes.size()) sound = false;
    if (!sound) return {};
    const std::string_view taken = bytes.substr(0, size);
    bytes.remove_prefix(size);
    return taken;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (!sound) return 0;
      value |= static_cast<uint64_t>(byte[0] & 0x7F) << shift;
      if ((byte[0] & 0x80) == 0) return value;
    }
    sound = false;
    return 0;
  }
};

// Every field of a message that holds bytes, by its number, as long as `visit` finds them sound.
bool visit_bytes(std::string_view message,
                 const std::function<bool(uint64_t field, std::string_view bytes)>& visit) {
  constexpr uint64_t kVarint = 0;
  constexpr uint64_t kEightBytes = 1;
  constexpr uint64_t kBytes = 2;
  constexpr uint64_t kFourBytes = 5;
  Reader reader{message};
  while (reader.sound && !reader.bytes.empty()) {
    const uint64_t tag = reader.varint();
    const uint64_t kind = tag & 7;
    if (kind == kVarint) {
      reader.varint();
    } else if (kind == kBytes) {
      const std::string_view bytes = reader.take(reader.varint());
      if (reader.sound && !visit(tag >> 3, bytes)) return false;
    } else if (kind == kEightBytes || kind == kFourBytes) {
      reader.take(kind == kEightBytes ? 8 : 4);
    } else {
      return false;
    }
  }
  return reader.sound;
}

// A double array of darts-clone: `units` in which a byte leads from one place to another.
class DoubleArray {
 public:
  explicit DoubleArray(std::string_view bytes) {
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      uint32_t unit = 0;
      for (size_t k = 0; k < 4; ++k) {
        unit |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[i + k])) << (8 * k);
      }
      units_.push_back(unit);
    }
  }

  // Whether no text leads out of it, or to a value that is not below `values`.
  bool leads_below(size_t values) const {
    std::vector<bool> seen(units_.size());
    std::vector<size_t> places{0};
    while (!places.empty()) {
      const size_t place = places.back();
      places.pop_back();
      // A byte chooses one of the 256 units around.
      const size_t around = place ^ offset(units_[place]);
      if ((around | 0xFF) >= units_.size()) return false;
      const bool ends_here = (units_[place] >> 8 & 1) != 0;
      if (place != 0 && ends_here && (units_[around] & 0x7FFFFFFF) >= values) return false;
      for (size_t byte = 0; byte < 256; ++byte) {
        const size_t next = around ^ byte;
        if (seen[next] || (units_[next] & 0x800000FF) != byte) continue;
        seen[next] = true;
        places.push_back(next);
      }
    }
    return true;
  }

  bool empty() const { return units_.empty(); }

 private:
  static size_t offset(uint32_t unit) {
    return static_cast<size_t>(unit >> 10) << ((unit & 0x200) >> 6);
  }

  std::vector<uint32_t> units_;
};

// uint32 size of the double array, the array, and strings that end with NUL, to which it leads.
bool charsmap_is_sound(std::string_view charsmap) {
  if (charsmap.empty()) return true;  // texts stay as they are
  Reader reader{charsmap};
  const std::string_view size_bytes = reader.take(4);
  uint64_t size = 0;
  for (size_t k = 0; k < size_bytes.size(); ++k) {
    size |= static_cast<uint64_t>(static_cast<unsigned char>(size_bytes[k])) << (8 * k);
  }
  const DoubleArray array(reader.take(size));
  const std::string_view strings = reader.bytes;
  return reader.sound && size % 4 == 0 && !array.empty() && strings.ends_with('\0') &&
         array.leads_below(strings.size());
}

}  // namespace

bool charsmaps_are_sound(std::string_view model) {
  constexpr uint64_t kNormalizerSpec = 3;
  constexpr uint64_t kDenormalizerSpec = 5;
  constexpr uint64_t kPrecompiledCharsmap = 2;
  return visit_bytes(model, [](uint64_t field, std::string_view specification) {
    if (field != kNormalizerSpec && field != kDenormalizerSpec) return true;
    return visit_bytes(specification, [](uint64_t inner, std::string_view bytes) {
      return inner != kPrecompiledCharsmap || charsmap_is_sound(bytes);
    });
  });
}

}  // namespace normlab
