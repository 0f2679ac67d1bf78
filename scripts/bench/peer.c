//go:build ignore

/*
Greedy decoding of a LLaMA in plain C, timed: what one gets from a single file without libraries, one token at a time on one
core. Float32 throughout; every product is a loop over the rows of a matrix that the compiler vectorises; keys and values
of earlier tokens are kept. Of a prompt's tokens only the last one's logits are computed, and the rotary tables are made
beforehand. Rows are decoded one after the other.

    cc -O3 -march=native -ffast-math -o peer peer.c -lm && ./peer hidden=512 layers=8 prompt=40 new=64

Arguments are name=value; the names and their defaults stand in main. Without weights=FILE the weights are random, without
tokens=FILE the prompts are. The first has all tensors as float32, in the order in which lay_out takes them; the second the
prompts [rows, prompt] as int32. One JSON line is printed a trial, after one that is not told. With follow=1 the second file
goes on with tokens [rows, new] that somebody else has chosen, and one line says how far below the largest logit theirs
were. transplant-bench --peer-c runs this file.

In the comments M is hidden, H heads, G groups (heads of keys and values), D dim (of a head), F inner (feed-forward), V vocab.
*/

#define _POSIX_C_SOURCE 199309L
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct shape {
	long layers, hidden, heads, groups, dim, inner, vocab, tied;
	double theta, eps;
};

struct layer {
	float *attention_norm; /* [M] */
	float *q;              /* [H D, M] */
	float *k, *v;          /* [G D, M] */
	float *o;              /* [M, H D] */
	float *feed_norm;      /* [M] */
	float *gate, *up;      /* [F, M] */
	float *down;           /* [M, F] */
};

struct model {
	struct shape shape;
	float *embedding; /* [V, M] */
	struct layer *layers;
	float *norm; /* [M] */
	float *head; /* [V, M]; the embedding where they are tied */
};

/* state is what there is while a row is decoded. */
struct state {
	long room;            /* tokens */
	float *keys, *values; /* [layers, room, G D]; keys are rotated */
	float *cos, *sin;     /* [room, D/2] */
	float *x;             /* [M], the residual stream */
	float *normed, *back; /* [M] */
	float *q, *z;         /* [H D] */
	float *gate, *up;     /* [F] */
	float *scores;        /* [room], of one head */
	float *logits;        /* [V] */
};

static void fail(const char *what, const char *about) {
	fprintf(stderr, "peer.c: %s %s\n", what, about);
	exit(1);
}

static float *floats(long n) {
	float *p = calloc(n > 0 ? n : 1, sizeof(float));
	if (p == NULL) fail("no memory for", "weights or buffers");
	return p;
}

/* lay_out takes the tensors one after the other from one piece of memory and returns how many values they are. With memory
   NULL it only counts. */
static long lay_out(struct model *m, float *memory) {
	struct shape s = m->shape;
	long used = 0;
#define TAKE(field, count) (m->field = memory == NULL ? NULL : memory + used, used += (count))
	TAKE(embedding, s.vocab * s.hidden);
	for (long l = 0; l < s.layers; l++) {
		TAKE(layers[l].attention_norm, s.hidden);
		TAKE(layers[l].q, s.heads * s.dim * s.hidden);
		TAKE(layers[l].k, s.groups * s.dim * s.hidden);
		TAKE(layers[l].v, s.groups * s.dim * s.hidden);
		TAKE(layers[l].o, s.hidden * s.heads * s.dim);
		TAKE(layers[l].feed_norm, s.hidden);
		TAKE(layers[l].gate, s.inner * s.hidden);
		TAKE(layers[l].up, s.inner * s.hidden);
		TAKE(layers[l].down, s.hidden * s.inner);
	}
	TAKE(norm, s.hidden);
	if (s.tied) m->head = m->embedding;
	else TAKE(head, s.vocab * s.hidden);
#undef TAKE
	return used;
}

/* number is the next one of a series, between 0 and 1. */
static double number(uint64_t *series) {
	*series = *series * 6364136223846793005u + 1442695040888963407u;
	return (double)(*series >> 11) / 9007199254740992.0;
}

/* draw makes random weights of about the size that trained ones have, and norms that change nothing. */
static void draw(struct model *m, float *memory, long count) {
	struct shape s = m->shape;
	uint64_t series = 1;
	double size = sqrt(3.0 / s.hidden);
	for (long i = 0; i < count; i++) memory[i] = size * (2 * number(&series) - 1);
	for (long j = 0; j < s.hidden; j++) {
		for (long l = 0; l < s.layers; l++) m->layers[l].attention_norm[j] = m->layers[l].feed_norm[j] = 1;
		m->norm[j] = 1;
	}
}

/* read_whole fills memory from a file, which must have just that many bytes. */
static void read_whole(const char *path, void *memory, size_t size) {
	FILE *f = fopen(path, "rb");
	if (f == NULL) fail("cannot open", path);
	if (fread(memory, 1, size, f) != size || fgetc(f) != EOF) fail("has not the size that the arguments ask for:", path);
	fclose(f);
}

/* multiply is y = w x, w [out, in]. */
static void multiply(float *restrict y, const float *restrict w, const float *restrict x, long out, long in) {
	for (long r = 0; r < out; r++) {
		const float *row = w + r * in;
		float sum = 0;
		for (long c = 0; c < in; c++) sum += row[c] * x[c];
		y[r] = sum;
	}
}

/* normalize is RMSNorm: x over the root of its mean square, times a gain. */
static void normalize(float *restrict y, const float *restrict x, const float *restrict gain, long n, float eps) {
	float squares = 0;
	for (long i = 0; i < n; i++) squares += x[i] * x[i];
	float scale = 1 / sqrtf(squares / n + eps);
	for (long i = 0; i < n; i++) y[i] = x[i] * scale * gain[i];
}

/* rotate turns each pair (j, j + D/2) of every head by its angle at this position. */
static void rotate(float *x, const float *cosine, const float *sine, long heads, long dim) {
	for (long h = 0; h < heads; h++, x += dim) {
		for (long j = 0; j < dim / 2; j++) {
			float a = x[j], b = x[j + dim / 2];
			x[j] = a * cosine[j] - b * sine[j];
			x[j + dim / 2] = b * cosine[j] + a * sine[j];
		}
	}
}

/* attend is what one head reads from the first n keys and values, which lie stride apart. */
static void attend(float *restrict z, const float *restrict q, const float *restrict keys, const float *restrict values,
                   float *restrict scores, long n, long stride, long dim) {
	float scale = 1 / sqrtf(dim), largest = -INFINITY, sum = 0;
	for (long t = 0; t < n; t++) {
		const float *k = keys + t * stride;
		float score = 0;
		for (long j = 0; j < dim; j++) score += q[j] * k[j];
		scores[t] = score * scale;
	}
	for (long t = 0; t < n; t++) largest = scores[t] > largest ? scores[t] : largest;
	for (long t = 0; t < n; t++) {
		scores[t] = expf(scores[t] - largest);
		sum += scores[t];
	}
	for (long j = 0; j < dim; j++) z[j] = 0;
	for (long t = 0; t < n; t++) {
		const float *v = values + t * stride;
		for (long j = 0; j < dim; j++) z[j] += scores[t] * v[j];
	}
	for (long j = 0; j < dim; j++) z[j] /= sum;
}

static void add(float *restrict x, const float *restrict y, long n) {
	for (long i = 0; i < n; i++) x[i] += y[i];
}

/* run_layer puts one layer's attention and feed-forward into the residual stream. */
static void run_layer(const struct model *m, struct state *st, long index, long position) {
	struct shape s = m->shape;
	struct layer *l = &m->layers[index];
	long stride = s.groups * s.dim;
	float *keys = st->keys + index * st->room * stride, *values = st->values + index * st->room * stride;
	float *k = keys + position * stride, *cosine = st->cos + position * (s.dim / 2), *sine = st->sin + position * (s.dim / 2);

	normalize(st->normed, st->x, l->attention_norm, s.hidden, s.eps);
	multiply(st->q, l->q, st->normed, s.heads * s.dim, s.hidden);
	multiply(k, l->k, st->normed, stride, s.hidden);
	multiply(values + position * stride, l->v, st->normed, stride, s.hidden);
	rotate(st->q, cosine, sine, s.heads, s.dim);
	rotate(k, cosine, sine, s.groups, s.dim);
	for (long h = 0; h < s.heads; h++) {
		long group = h / (s.heads / s.groups);
		attend(st->z + h * s.dim, st->q + h * s.dim, keys + group * s.dim, values + group * s.dim, st->scores, position + 1,
		       stride, s.dim);
	}
	multiply(st->back, l->o, st->z, s.hidden, s.heads * s.dim);
	add(st->x, st->back, s.hidden);

	normalize(st->normed, st->x, l->feed_norm, s.hidden, s.eps);
	multiply(st->gate, l->gate, st->normed, s.inner, s.hidden);
	multiply(st->up, l->up, st->normed, s.inner, s.hidden);
	for (long i = 0; i < s.inner; i++) st->gate[i] *= st->up[i] / (1 + expf(-st->gate[i])); /* silu(gate) up */
	multiply(st->back, l->down, st->gate, s.hidden, s.inner);
	add(st->x, st->back, s.hidden);
}

/* put adds a token at a position, which must be the next, and with read computes the logits behind it. */
static void put(const struct model *m, struct state *st, int32_t token, long position, int read) {
	struct shape s = m->shape;
	memcpy(st->x, m->embedding + (long)token * s.hidden, s.hidden * sizeof(float));
	for (long l = 0; l < s.layers; l++) run_layer(m, st, l, position);
	if (!read) return;
	normalize(st->normed, st->x, m->norm, s.hidden, s.eps);
	multiply(st->logits, m->head, st->normed, s.vocab, s.hidden);
}

/* greedy is the first token with the largest logit. */
static int32_t greedy(const float *logits, long vocab) {
	long best = 0;
	for (long i = 1; i < vocab; i++) {
		if (logits[i] > logits[best]) best = i;
	}
	return (int32_t)best;
}

static void make_state(const struct model *m, struct state *st, long room) {
	struct shape s = m->shape;
	st->room = room;
	st->keys = floats(s.layers * room * s.groups * s.dim), st->values = floats(s.layers * room * s.groups * s.dim);
	st->cos = floats(room * (s.dim / 2)), st->sin = floats(room * (s.dim / 2));
	st->x = floats(s.hidden), st->normed = floats(s.hidden), st->back = floats(s.hidden);
	st->q = floats(s.heads * s.dim), st->z = floats(s.heads * s.dim);
	st->gate = floats(s.inner), st->up = floats(s.inner);
	st->scores = floats(room), st->logits = floats(s.vocab);
	for (long t = 0; t < room; t++) {
		for (long j = 0; j < s.dim / 2; j++) {
			double angle = t * pow(s.theta, -2.0 * j / s.dim);
			st->cos[t * (s.dim / 2) + j] = cos(angle), st->sin[t * (s.dim / 2) + j] = sin(angle);
		}
	}
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* prefill computes a prompt, up to the logits behind it. */
static void prefill(const struct model *m, struct state *st, const int32_t *tokens, long prompt) {
	for (long t = 0; t < prompt; t++) put(m, st, tokens[t], t, t == prompt - 1);
}

/* decode adds new tokens to every row and prints the seconds for prompts, each with its first new token, and for the rest,
   and the last row's last token, so that nothing of it can be left out. */
static void decode(const struct model *m, struct state *st, const int32_t *tokens, long rows, long prompt, long new, int told) {
	double prompts = 0, rest = 0;
	int32_t token = 0;
	for (long r = 0; r < rows; r++) {
		double start = now();
		prefill(m, st, tokens + r * prompt, prompt);
		token = greedy(st->logits, m->shape.vocab);
		double first = now();
		for (long i = 0; i < new - 1; i++) {
			put(m, st, token, prompt + i, 1);
			token = greedy(st->logits, m->shape.vocab);
		}
		prompts += first - start, rest += now() - first;
	}
	if (!told) return;
	printf("{\"prompt_seconds\":%.9f,\"decode_seconds\":%.9f,\"tokens\":%ld,\"last\":%d}\n", prompts, rest, rows * (new - 1), token);
	fflush(stdout);
}

/* follow goes along with tokens that were chosen elsewhere and prints how far their logits were from the largest. */
static void follow(const struct model *m, struct state *st, const int32_t *tokens, long rows, long prompt, long new) {
	const int32_t *chosen = tokens + rows * prompt;
	double gap = 0, largest = 0;
	long same = 0;
	for (long r = 0; r < rows; r++) {
		prefill(m, st, tokens + r * prompt, prompt);
		for (long i = 0; i < new; i++) {
			int32_t theirs = chosen[r * new + i], ours = greedy(st->logits, m->shape.vocab);
			double below = st->logits[ours] - st->logits[theirs];
			gap = below > gap ? below : gap, same += ours == theirs;
			for (long v = 0; v < m->shape.vocab; v++) largest = fmax(largest, fabs(st->logits[v]));
			if (i < new - 1) put(m, st, theirs, prompt + i, 1);
		}
	}
	printf("{\"generated\":%ld,\"same\":%ld,\"worst_gap\":%.9g,\"largest_logit\":%.9g}\n", rows * new, same, gap, largest);
}

/* given finds the value of an argument NAME=VALUE, or NULL. */
static const char *given(int count, char **arguments, const char *name) {
	size_t n = strlen(name);
	for (int i = 1; i < count; i++) {
		if (strncmp(arguments[i], name, n) == 0 && arguments[i][n] == '=') return arguments[i] + n + 1;
	}
	return NULL;
}

/* knob is a number that can be given. */
struct knob {
	const char *name;
	double value, least;
};

static void read_knobs(int count, char **arguments, struct knob *knobs) {
	for (int i = 1; i < count; i++) {
		size_t n = strcspn(arguments[i], "=");
		int known = strncmp(arguments[i], "weights=", 8) == 0 || strncmp(arguments[i], "tokens=", 7) == 0;
		for (struct knob *k = knobs; k->name != NULL; k++) known |= strlen(k->name) == n && strncmp(arguments[i], k->name, n) == 0;
		if (!known) fail("no such argument:", arguments[i]);
	}
	for (struct knob *k = knobs; k->name != NULL; k++) {
		const char *text = given(count, arguments, k->name);
		char *end = NULL;
		if (text == NULL) continue;
		k->value = strtod(text, &end);
		if (end == text || *end != 0 || !(k->value >= k->least)) fail("not a value that can be used:", k->name);
	}
}

/* read_tokens are prompts, and with follow what continues them: from a file, or random ones. */
static int32_t *read_tokens(const char *path, long count, long vocab) {
	int32_t *tokens = calloc(count, sizeof(int32_t));
	uint64_t series = 2;
	if (tokens == NULL) fail("no memory for", "tokens");
	if (path != NULL) read_whole(path, tokens, count * sizeof(int32_t));
	for (long i = 0; i < count; i++) {
		if (path == NULL) tokens[i] = (int32_t)(number(&series) * vocab);
		if (tokens[i] < 0 || tokens[i] >= vocab) fail("has a token outside the vocabulary:", path);
	}
	return tokens;
}

int main(int count, char **arguments) {
	enum { layers, hidden, heads, groups, dim, inner, vocab, tied, theta, eps, rows, prompt, new, trials, following };
	struct knob k[] = {{"layers", 5, 1}, {"hidden", 64, 1}, {"heads", 8, 1}, {"groups", 4, 1}, {"dim", 8, 2}, {"inner", 172, 1},
	    {"vocab", 512, 1}, {"tied", 1, 0}, {"theta", 10000, 1}, {"eps", 1e-5, 0}, {"rows", 1, 1}, {"prompt", 40, 1},
	    {"new", 64, 2}, {"trials", 5, 1}, {"follow", 0, 0}, {NULL, 0, 0}};
	read_knobs(count, arguments, k);
	struct model m = {.shape = {k[layers].value, k[hidden].value, k[heads].value, k[groups].value, k[dim].value, k[inner].value,
	    k[vocab].value, k[tied].value, k[theta].value, k[eps].value}};
	if (m.shape.heads % m.shape.groups != 0 || m.shape.dim % 2 != 0) fail("heads must divide into groups", "and dim must be even");
	m.layers = calloc(m.shape.layers, sizeof(struct layer));
	if (m.layers == NULL) fail("no memory for", "layers");
	long size = lay_out(&m, NULL), n = k[new].value, length = k[prompt].value, all = k[rows].value;
	float *memory = floats(size);
	lay_out(&m, memory);
	const char *weights = given(count, arguments, "weights"), *path = given(count, arguments, "tokens");
	if (weights != NULL) read_whole(weights, memory, size * sizeof(float));
	else draw(&m, memory, size);
	int followed = k[following].value != 0;
	int32_t *tokens = read_tokens(path, all * (length + (followed ? n : 0)), m.shape.vocab);
	struct state st;
	make_state(&m, &st, length + n);
	if (followed) {
		follow(&m, &st, tokens, all, length, n);
		return 0;
	}
	for (long i = 0; i <= k[trials].value; i++) decode(&m, &st, tokens, all, length, n, i > 0);
	return 0;
}
