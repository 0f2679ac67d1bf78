// Package llama runs a LLaMA-class transformer layer by layer, forward and backward, with the keys and values of every
// layer open to capture and insertion.
// block.go, attention.go, head.go and gradient.go build graphs: norm, rotary embedding, attention, feed-forward, loss
// and their gradients. Engine compiles one executable per kind of block and shape and drives them over the layers from
// Go, the weights being arguments; a Stream is one batch of sequences on its way through the layers, and a Decoder
// continues sequences token by token. What is added to the base's projections comes in through Extra, and what is moved
// through KV, and nowhere else.
//
// Letters in shapes: B rows, S positions, Q query positions (S, or 1 in the last layer), K key positions (S own, P of a
// shared prefix and I inserted), H heads, G key/value heads, R = H/G, D head dimension, M hidden size, F feed-forward
// size, V vocabulary.
package llama
