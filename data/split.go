package data

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Split divides rows 0 to n-1 into a training and a test part, each in file order. The test part has n*fraction rows,
// rounded to the nearest whole number (halves up), drawn by the seed alone; fraction 0 leaves every row for training.
// fraction must be at least 0 and leave a row for training.
func Split(n int, fraction float64, seed uint64) (train, test []int, err error) {
	if !(fraction >= 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("test fraction %v; it must be at least 0 and less than 1", fraction)
	}
	count := int(math.Round(float64(n) * fraction))
	if n > 0 && count >= n {
		return nil, nil, fmt.Errorf("test fraction %v leaves none of %d rows for training", fraction, n)
	}
	order := generator(seed, "split", 0).Perm(n)
	test, train = order[:count], order[count:]
	slices.Sort(test)
	slices.Sort(train)
	return train, test, nil
}

// Order is a shuffling of 0 to n-1 for an epoch, counted from 0. It depends on nothing but its arguments, so a run that
// is resumed in the middle of an epoch goes on as it would have.
func Order(n, epoch int, seed uint64) []int { return generator(seed, "order", epoch).Perm(n) }

// generator makes a stream of random numbers of its own for each seed, purpose and index.
func generator(seed uint64, purpose string, index int) *rand.Rand {
	key := binary.LittleEndian.AppendUint64(nil, seed)
	key = binary.LittleEndian.AppendUint64(key, uint64(index))
	return rand.New(rand.NewChaCha8(sha256.Sum256(append(key, purpose...))))
}
