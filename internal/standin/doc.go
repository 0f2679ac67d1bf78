// Package standin makes stand-ins for checkpoints that are not at hand: the shapes of published models by name, and
// random weights that keep activations finite. They show what a model costs, not what it says.
package standin
