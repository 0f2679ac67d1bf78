// Package transplant is the method: an arguer reads each candidate's argument, its keys and values at the argument are
// moved into a chooser that reads the whole problem, and the loss on the chooser's one next token trains both.
//
// Case and plan.go turn token spans into two packed sequences and the list of states to move; Method.Sweep runs them
// through the engine, the chooser one layer behind the arguer, and back; Trainer and Evaluate are the loops around it;
// Run is a directory that holds everything about one training run and from which it can go on.
package transplant
