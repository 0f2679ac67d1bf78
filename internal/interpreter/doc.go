// Package interpreter is an instrument for tests: a PJRT plugin, in C++ under plugin/, that runs the programs which go-xla
// would hand to a GPU. It parses the StableHLO text, holds every operation to the rules of its specification, refuses what
// it does not know, and computes each element by its formula on the CPU; it keeps books of buffers and bytes, and can write
// down each program with what it asks of a device. It is not XLA: it compiles nothing, fuses nothing, and says nothing about
// speed, about a GPU's memory, or about what XLA's own passes make of a program.
package interpreter
