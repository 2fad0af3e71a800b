# The CUDA toolkit: sets CUDA_ABSENCE to the reason why this build has no CUDA part, or to nothing,
# and then enables the language and defines use_nvcc(). NORMLAB_CUDA=AUTO must not fail: whatever
# keeps the CUDA part away becomes the reason that the program gives for it.

# Tells check_language where nvcc is, unless the user has.
function(find_nvcc)
  if(CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX})
    return()
  endif()
  # What check_language did not find the last time may be there now.
  unset(CMAKE_CUDA_COMPILER CACHE)
  if(NORMLAB_NVCC AND NOT EXISTS ${NORMLAB_NVCC})
    unset(NORMLAB_NVCC CACHE)
  endif()
  # The folder of tools/cuda_toolkit first: it is there because somebody wanted it.
  find_program(NORMLAB_NVCC nvcc PATHS ${CMAKE_SOURCE_DIR}/.cuda/toolkit/bin NO_DEFAULT_PATH)
  find_program(NORMLAB_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
               PATHS /usr/local/cuda/bin)
  if(NORMLAB_NVCC)
    set(ENV{CUDACXX} ${NORMLAB_NVCC})
  endif()
endfunction()

set(CUDA_ABSENCE "")
if(NORMLAB_CUDA STREQUAL "OFF")
  set(CUDA_ABSENCE "it was configured with NORMLAB_CUDA=OFF")
elseif(NORMLAB_SANITIZE)
  set(CUDA_ABSENCE "builds with sanitizers have none")
else()
  find_nvcc()
  if(NOT CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
    set(ENV{CUDAHOSTCXX} ${CMAKE_CXX_COMPILER})
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
      set(CUDA_ABSENCE "nvcc is ${CMAKE_CUDA_COMPILER_VERSION} and 12.4 or newer is needed")
    elseif(NOT TARGET CUDA::cublasLt OR NOT TARGET CUDA::cudart_static)
      set(CUDA_ABSENCE "the toolkit of ${CMAKE_CUDA_COMPILER} lacks cuBLASLt or the static runtime")
    endif()
  elseif(DEFINED ENV{CUDACXX})
    set(CUDA_ABSENCE "$ENV{CUDACXX} does not work with ${CMAKE_CXX_COMPILER}")
  else()
    set(CUDA_ABSENCE "no toolkit was found when it was configured")
    message(STATUS "tools/cuda_toolkit would fetch CUDA's compiler into .cuda/, without root")
  endif()
endif()

set(CUDA_RECORDS ${CMAKE_BINARY_DIR}/ptxas)  # of tests/ptxas/record
if(NOT CUDA_ABSENCE STREQUAL "")
  if(NORMLAB_CUDA STREQUAL "ON")
    message(FATAL_ERROR "NORMLAB_CUDA is ON, but this build has no CUDA part: ${CUDA_ABSENCE}. "
                        "tools/cuda_toolkit fetches a toolkit into .cuda/, without root.")
  endif()
  return()
endif()

set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
# Older CMakes do not know how newer nvccs are asked for it.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
list(JOIN CXX_OPTIONS "," HOST_OPTIONS)
# Machine code for the oldest and for Hopper with its own instructions, PTX for what comes after.
# -no-compress: the gate of tests/ptxas reads the launch bounds of kernels in the object's PTX.
set(NVCC_OPTIONS
    --expt-relaxed-constexpr -lineinfo -no-compress -Xptxas=-v
    -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a
    -gencode=arch=compute_90,code=compute_90
    -Werror=all-warnings -Xcompiler=${HOST_OPTIONS})

# The target's CUDA files are compiled as above, and tests/ptxas/record keeps what nvcc said.
function(use_nvcc target)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${NVCC_OPTIONS}>")
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR})
  set(launcher ${CMAKE_SOURCE_DIR}/tests/ptxas/record ${CUDA_RECORDS}/${target}
               ${CMAKE_CUDA_COMPILER_LAUNCHER})
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY None
                                             CUDA_COMPILER_LAUNCHER "${launcher}")
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
endfunction()
