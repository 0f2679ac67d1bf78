// Package extract reads texts with a model and writes the states at chosen sites, layers and positions to a directory of
// package states. The input is gone through twice: once to check every line and to count, so that nothing wrong is found
// in the middle of the work, and once to compute, texts of a length together. What either holds does not grow with the
// input.
package extract
