// Catch2 2.x under the name that all tests include; CMake chooses between this and ../v3.
#pragma once
#include <catch2/catch.hpp>
