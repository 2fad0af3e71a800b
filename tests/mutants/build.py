"""A finished build by Ninja, and its programs linked once more with a mistake in one source file.

The build and the source tree stay as they are: only the objects that read the file are compiled
again, elsewhere and by the build's own commands, and stand before the build's own in the link.
"""

import os
import pathlib
import shlex
import signal
import subprocess

# Threads that spin while they wait would fight for the cores with those that compile.
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "passive"}


def output_of(command, folder=None, seconds=3600, **variables):
    """Exit status and output; status None where it took longer."""
    # A group of its own: mpirun and its ranks end with it.
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, errors="replace",
                          start_new_session=True, env=ENVIRONMENT | variables) as process:
        try:
            text, _ = process.communicate(timeout=seconds)
            return process.returncode, text
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, process.communicate()[0]


class Failure(Exception):
    """The first error of a compiler or linker."""

    @classmethod
    def among(cls, text):
        errors = [line for line in text.splitlines() if " error: " in line or "undefined" in line]
        return cls((errors or text.splitlines()[-1:] or ["?"])[0])


def shadowed(arguments, source, overlay):
    """The command's arguments, with overlay searched for headers before the source tree."""
    place = arguments.index(f"-I{source}")
    return arguments[:place] + [f"-I{overlay}"] + arguments[place:]


class Build:
    """What Ninja knows of a build that is up to date."""

    def __init__(self, source, folder):
        self.source = pathlib.Path(source)
        self.folder = pathlib.Path(folder)
        self.readers = {}
        self.commands = {}  # a program's, in the order of building

    def bring_up_to_date(self, programs):
        status, text = output_of(["cmake", "--build", self.folder, "--target", *programs])
        if status != 0:
            raise Failure(text[-4000:])
        self.readers = self._readers()
        for program in programs:
            self.commands[program] = [shlex.split(line) for line in
                                      self._ninja("commands", program).splitlines()]

    def _ninja(self, *arguments):
        status, text = output_of(["ninja", "-t", *arguments], self.folder)
        if status != 0:
            raise Failure(text)
        return text

    def _readers(self):
        """For each file, the objects compiled from it or with it among their headers."""
        readers = {}
        target = ""
        for line in self._ninja("deps").splitlines():
            if line.startswith(" "):
                path = os.path.normpath(self.folder / line.strip())
                readers.setdefault(path, set()).add(target)
            elif line:
                target = line.split(": #deps")[0]
        return readers

    def link_with(self, file, text, program, folder):
        """Links program, and what it runs, into folder as if file held text. Raises Failure."""
        compiled = self._compile_with(file, text, program, folder)
        archives = {}  # an archive's objects
        for command in self.commands[program]:
            if "qc" in command:
                place = command.index("qc") + 1
                archives[command[place]] = set(command[place + 1:])
            elif command[:1] == [":"] and "-o" in command:
                self._link(command, archives, compiled, folder)

    def _compile_with(self, file, text, program, folder):
        """The objects of program that read file, compiled anew: their old paths and new ones."""
        overlay = folder / "source"
        wrong = overlay / file
        wrong.parent.mkdir(parents=True)
        wrong.write_text(text, encoding="utf-8")
        readers = self.readers.get(str(self.source / file), set())
        compiled = {}
        for command in self.commands[program]:
            # Nothing here runs what nvcc compiles.
            by_nvcc = any(os.path.basename(word) == "nvcc" for word in command)
            if "-c" not in command or "-MF" not in command or by_nvcc:
                continue
            output = command[command.index("-o") + 1]
            if output not in readers or output in compiled:
                continue
            compiled[output] = str(folder / f"{len(compiled)}.o")
            self._compile(command, wrong, file, compiled[output], overlay)
        if not compiled:
            raise Failure(f"{program} is not made of {file}")
        return compiled

    def _compile(self, command, wrong, file, output, overlay):
        arguments = shadowed(command, self.source, overlay)
        arguments.append("-w")  # a mistake may well leave a variable unused
        arguments[arguments.index("-o") + 1] = output
        dependencies = arguments.index("-MF")
        del arguments[dependencies:dependencies + 2]
        for option in ("-MD", "-MT"):
            place = arguments.index(option)
            del arguments[place:place + (1 if option == "-MD" else 2)]
        place = arguments.index("-c") + 1
        main = pathlib.Path(arguments[place])
        if main == self.source / file:
            arguments[place] = str(wrong)
        elif main.is_relative_to(self.folder):
            # A source that the build wrote names what it includes by its whole path.
            copy = pathlib.Path(output).with_suffix(".cpp")
            copy.write_text(main.read_text(encoding="utf-8").replace(
                str(self.source / file), str(wrong)), encoding="utf-8")
            arguments[place] = str(copy)
        status, text = output_of(arguments, self.folder)
        if status != 0:
            raise Failure.among(text)

    def _link(self, command, archives, compiled, folder):
        """One program, if what it is linked of was compiled anew."""
        command = command[2:command.index("&&", 2)]  # without what follows a link
        place = command.index("-o") + 1
        members = set(command).union(*(archives.get(word, ()) for word in command))
        affected = [output for output in compiled if output in members]
        if not affected:
            return
        arguments = [word for word in command if word not in compiled]
        place = arguments.index("-o") + 1
        arguments[place] = str(folder / arguments[place])
        # Before the archives: no member of theirs that defines the same is taken.
        arguments[place + 1:place + 1] = [compiled[output] for output in affected]
        status, text = output_of(arguments, self.folder)
        if status != 0:
            raise Failure.among(text)
