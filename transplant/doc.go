// Package transplant is the method: an arguer reads each candidate's argument, its keys and values at the argument are
// moved into a chooser that reads the whole problem, and the loss on the chooser's one next token trains both.
// Case and plan.go turn token spans into two packed sequences and the list of states to move; Method.Train runs them
// through the engine, the chooser one block behind the arguer, and back; Method.Predict and Trainer are the loops around
// it; RunDir is a directory that holds everything about one training run and from which it can go on.
package transplant
