# cmake -D TEMPLATE=… -D OUTPUT=… -D SOURCE=… -D GIT=… -D VERSION=… -D COMPILER=… -P
# Writes build_info.h, the commit of SOURCE included; leaves it alone where nothing has changed.

set(COMMIT "unknown")
# A source tree without .git may lie within another repository, whose commit is not ours.
if(GIT AND EXISTS "${SOURCE}/.git")
  # Without locks: a commit may be going on meanwhile.
  execute_process(COMMAND ${GIT} --no-optional-locks describe --always --dirty --abbrev=12
                  WORKING_DIRECTORY ${SOURCE} RESULT_VARIABLE FAILED OUTPUT_VARIABLE FOUND
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(FAILED EQUAL 0 AND FOUND)
    set(COMMIT "${FOUND}")
  endif()
endif()
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
