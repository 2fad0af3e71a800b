// Catch2 3.x under the name that all tests include, with version 2's Approx in the global scope.
#pragma once
#include <catch2/catch_all.hpp>
using Catch::Approx;
