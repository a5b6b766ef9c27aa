/* A stand-in for NVIDIA's driver library, for tests. Its cards are those of the file `cards` beside the built library: a line for each, with
   the 32 digits of its UUID and its memory in bytes. It runs kernels by interpreting the few instructions of PTX that ours use, thread by
   thread, and refuses what a driver would refuse: memory that is not there, a context that is not current, an access outside of what was
   allocated, an instruction it does not know. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cards are opened side by side, and each thread reads its own text. */
static _Thread_local char *place;
#define strtok(text, separators) strtok_r(text, separators, &place)

enum { INVALID = 1, OUT_OF_MEMORY = 2, NOT_INITIALISED = 3, INVALID_DEVICE = 101, INVALID_PTX = 218, NO_CONTEXT = 201, NOT_FOUND = 500,
       ILLEGAL_ADDRESS = 700 };
enum { MAX_CARDS = 8, MAX_BLOCKS = 4096, MAX_NAMES = 256, MAX_LINES = 8192, MAX_KERNELS = 4, MAX_THREADS = 256, SHARED = 16384 };

typedef struct { uint64_t address, bytes; } Block;
typedef struct { char uuid[40]; uint64_t memory, used; int retained, blocks; Block block[MAX_BLOCKS]; pthread_mutex_t lock; } Card;
static Card cards[MAX_CARDS];
static int card_count, initialised;
static __thread Card *current;

unsigned cuInit(unsigned flags) {
    Dl_info self;
    char path[4096], line[128];
    if (flags || !dladdr((void *)cuInit, &self)) return INVALID;
    if (initialised) return 0;
    snprintf(path, sizeof path, "%s", self.dli_fname);
    strcpy(strrchr(path, '/') + 1, "cards");
    FILE *file = fopen(path, "r");
    if (!file) return INVALID_DEVICE;
    for (card_count = 0; card_count < MAX_CARDS && fgets(line, sizeof line, file); card_count++) {
        Card *card = &cards[card_count];
        memset(card, 0, sizeof *card);
        pthread_mutex_init(&card->lock, NULL);
        if (sscanf(line, "%39s %llu", card->uuid, (unsigned long long *)&card->memory) != 2) return INVALID;
    }
    fclose(file);
    initialised = 1;
    return 0;
}

unsigned cuDeviceGetCount(int *count) {
    if (!initialised) return NOT_INITIALISED;
    *count = card_count;
    return 0;
}

unsigned cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= card_count) return INVALID_DEVICE;
    *device = ordinal + 40; /* no caller may take one for the other */
    return 0;
}

static Card *card_of(int device) { return device < 40 || device >= 40 + card_count ? NULL : &cards[device - 40]; }

unsigned cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    Card *card = card_of(device);
    if (!card) return INVALID_DEVICE;
    for (int i = 0; i < 16; i++) sscanf(card->uuid + 2 * i, "%2hhx", &uuid[i]);
    return 0;
}

unsigned cuDevicePrimaryCtxRetain(Card **context, int device) {
    if (!(*context = card_of(device))) return INVALID_DEVICE;
    __sync_add_and_fetch(&(*context)->retained, 1);
    return 0;
}

/* Who leaves memory behind with the last context has lost it: that must not happen. */
unsigned cuDevicePrimaryCtxRelease_v2(int device) {
    Card *card = card_of(device);
    if (!card || card->retained < 1) return NO_CONTEXT;
    if (__sync_sub_and_fetch(&card->retained, 1) == 0 && card->used) abort();
    return 0;
}

unsigned cuCtxSetCurrent(Card *context) { current = context; return 0; }
unsigned cuCtxSynchronize(void) { return current && current->retained ? 0 : NO_CONTEXT; }

unsigned cuMemGetInfo_v2(size_t *available, size_t *total) {
    if (!current || !current->retained) return NO_CONTEXT;
    *total = current->memory;
    *available = current->memory - current->used;
    return 0;
}

unsigned cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    if (!current || !current->retained) return NO_CONTEXT;
    if (bytes == 0) return INVALID;
    if (current->used + bytes > current->memory || current->blocks == MAX_BLOCKS) return OUT_OF_MEMORY;
    void *memory = aligned_alloc(256, (bytes + 255) & ~(size_t)255);
    memset(memory, 0xa5, bytes);
    *address = (uint64_t)memory;
    current->block[current->blocks++] = (Block){ *address, bytes };
    current->used += bytes;
    return 0;
}

unsigned cuMemFree_v2(uint64_t address) {
    if (!current || !current->retained) return NO_CONTEXT;
    for (int i = 0; i < current->blocks; i++)
        if (current->block[i].address == address) {
            current->used -= current->block[i].bytes;
            current->block[i] = current->block[--current->blocks];
            free((void *)address);
            return 0;
        }
    return INVALID;
}

unsigned cuMemAllocHost_v2(void **memory, size_t bytes) { return (*memory = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095)) ? 0 : OUT_OF_MEMORY; }
unsigned cuMemFreeHost(void *memory) { free(memory); return 0; }

static int allowed(const Card *card, uint64_t address, uint64_t bytes) {
    for (int i = 0; card && i < card->blocks; i++)
        if (address >= card->block[i].address && address + bytes <= card->block[i].address + card->block[i].bytes) return 1;
    return 0;
}

unsigned cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    if (!allowed(current, to, bytes)) return ILLEGAL_ADDRESS;
    memcpy((void *)to, from, bytes);
    return 0;
}

unsigned cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    if (!allowed(current, from, bytes)) return ILLEGAL_ADDRESS;
    memcpy(to, (void *)from, bytes);
    return 0;
}

unsigned cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
    if (!allowed(current, to, bytes) || !allowed(current, from, bytes)) return ILLEGAL_ADDRESS;
    memcpy((void *)to, (void *)from, bytes);
    return 0;
}

/* ---- PTX ---- */

typedef struct { int is_name; int32_t name; uint64_t value; } Operand;
typedef struct { int code, guard, target, line; Operand operand[8]; } Instruction;
typedef struct { char text[24]; int wide, line; } Name; /* a register, a label, a parameter or an array */
typedef struct {
    char name[32];
    int names, lines, parameters, shared;
    Name name_of[MAX_NAMES];
    int parameter[8];
    Instruction code[MAX_LINES];
} Kernel;
typedef struct { int kernels; Kernel *kernel[MAX_KERNELS]; } Module;
typedef struct { uint64_t value[MAX_NAMES]; int at, waits; } Thread;

enum { LD_PARAM_32, LD_PARAM_64, CVTA, MOV_32, MOV_64, ADD_32, ADD_64, SUB_32, MUL_32, MUL_WIDE, MAD_32, SHL, SHR, AND, OR, XOR, SHF,
       SETP_GE, SETP_NE, LD_GLOBAL, LD_GLOBAL_4, ST_GLOBAL, ST_GLOBAL_4, LD_SHARED, ST_SHARED, BRA, BAR, RET, CODES };
static const struct { const char *name; int operands; } codes[CODES] = {
    { "ld.param.u32", 2 }, { "ld.param.u64", 2 }, { "cvta.to.global.u64", 2 }, { "mov.u32", 2 }, { "mov.u64", 2 }, { "add.u32", 3 },
    { "add.u64", 3 }, { "sub.u32", 3 }, { "mul.lo.u32", 3 }, { "mul.wide.u32", 3 }, { "mad.lo.u32", 4 }, { "shl.b32", 3 }, { "shr.u32", 3 },
    { "and.b32", 3 }, { "or.b32", 3 }, { "xor.b32", 3 }, { "shf.r.wrap.b32", 4 }, { "setp.ge.u32", 3 }, { "setp.ne.u32", 3 },
    { "ld.global.u32", 3 }, { "ld.global.v4.u32", 6 }, { "st.global.u32", 3 }, { "st.global.v4.u32", 6 }, { "ld.shared.u32", 3 },
    { "st.shared.u32", 3 }, { "bra", 1 }, { "bar.sync", 1 }, { "ret", 0 },
};

static int name_in(Kernel *kernel, const char *text, int declare) {
    for (int i = 0; i < kernel->names; i++)
        if (!strcmp(kernel->name_of[i].text, text)) return declare ? -1 : i;
    if (!declare || kernel->names == MAX_NAMES || strlen(text) > 23) return -1;
    strcpy(kernel->name_of[kernel->names].text, text);
    kernel->name_of[kernel->names].line = -1;
    return kernel->names++;
}

/* Operands as in the text, `[a+8]` as two, `{a, b}` as its members. Every name must have been declared, save labels. */
static int operands(Kernel *kernel, Instruction *instruction, char *text) {
    int count = 0;
    for (char *word = strtok(text, " ,{}[]+"); word; word = strtok(NULL, " ,{}[]+")) {
        if (count == 8) return -1;
        Operand *operand = &instruction->operand[count++];
        operand->is_name = !(word[0] >= '0' && word[0] <= '9');
        if (!operand->is_name) { operand->value = strtoull(word, NULL, 0); continue; }
        operand->name = name_in(kernel, word, 0);
        if (operand->name < 0 && instruction->code == BRA) operand->name = name_in(kernel, word, 1);
        if (operand->name < 0) return -1;
    }
    return count;
}

static int instruction_of(Kernel *kernel, char *line) {
    if (kernel->lines == MAX_LINES) return 0;
    Instruction *instruction = &kernel->code[kernel->lines++];
    char *word = strtok(line, " ;");
    memset(instruction, 0, sizeof *instruction);
    instruction->guard = -1;
    if (word && word[0] == '@') {
        if ((instruction->guard = name_in(kernel, word + 1, 0)) < 0) return 0;
        word = strtok(NULL, " ;");
    }
    for (int code = 0; word && code < CODES; code++)
        if (!strcmp(word, codes[code].name)) {
            char *rest = strtok(NULL, ";"), none[1] = "";
            instruction->code = code;
            int found = operands(kernel, instruction, rest ? rest : none);
            /* an address without a distance */
            int memory = code >= LD_GLOBAL && code <= ST_SHARED;
            if (memory && found == codes[code].operands - 1) {
                if (code == ST_GLOBAL || code == ST_SHARED) instruction->operand[2] = instruction->operand[1];
                instruction->operand[code == ST_GLOBAL || code == ST_SHARED ? 1 : found] = (Operand){ 0, 0, 0 };
                found++;
            }
            return found == codes[code].operands;
        }
    return 0;
}

static int declare(Kernel *kernel, char *line) {
    int wide = strstr(line, ".b64") != NULL;
    if (!strstr(line, ".reg")) {
        char *word = strstr(line, ".b8 ");
        char name[32];
        if (!word || sscanf(word + 4, "%31[a-z][%d]", name, &kernel->shared) != 2 || kernel->shared > SHARED) return 0;
        return name_in(kernel, name, 1) >= 0;
    }
    for (char *word = strtok(line, " ,;"); word; word = strtok(NULL, " ,;")) {
        if (word[0] != '%') continue;
        int name = name_in(kernel, word, 1);
        if (name < 0) return 0;
        kernel->name_of[name].wide = wide;
    }
    return 1;
}

static Kernel *kernel_of(char *line) {
    static const char *special[] = { "%tid.x", "%ntid.x", "%ctaid.x", "%ctaid.y" };
    Kernel *kernel = calloc(1, sizeof *kernel);
    for (int i = 0; i < 4; i++) name_in(kernel, special[i], 1);
    strtok(line, " ("); /* .visible */
    strtok(NULL, " (");
    snprintf(kernel->name, sizeof kernel->name, "%s", strtok(NULL, " ("));
    for (char *word = strtok(NULL, " ,()"); word; word = strtok(NULL, " ,()"))
        if (word[0] != '.' && kernel->parameters < 8) kernel->parameter[kernel->parameters++] = name_in(kernel, word, 1);
    return kernel;
}

unsigned cuModuleLoadData(Module **module, const char *text) {
    if (!current || !current->retained) return NO_CONTEXT;
    char *copy = strdup(text), *rest = copy, *line;
    Kernel *kernel = NULL;
    unsigned result = 0;
    *module = calloc(1, sizeof **module);
    while (!result && (line = strsep(&rest, "\n"))) {
        line += strspn(line, " ");
        size_t length = strlen(line);
        if (!length || !strcmp(line, "{")) continue;
        if (!kernel) {
            if (!strncmp(line, ".visible .entry ", 16)) kernel = (*module)->kernel[(*module)->kernels++] = kernel_of(line);
            else if (strncmp(line, ".version ", 9) && strncmp(line, ".target ", 8) && strncmp(line, ".address_size 64", 16)) result = INVALID_PTX;
        } else if (!strcmp(line, "}")) {
            for (int i = 0; i < kernel->lines; i++) {
                Instruction *jump = &kernel->code[i];
                if (jump->code == BRA && (jump->target = kernel->name_of[jump->operand[0].name].line) < 0) result = INVALID_PTX;
            }
            kernel = NULL;
        } else if (line[length - 1] == ':') {
            line[length - 1] = 0;
            int name = name_in(kernel, line, 0);
            if (name < 0) name = name_in(kernel, line, 1);
            if (name < 0) result = INVALID_PTX; else kernel->name_of[name].line = kernel->lines;
        } else if (!(line[0] == '.' ? declare(kernel, line) : instruction_of(kernel, line))) {
            result = INVALID_PTX;
        }
    }
    free(copy);
    return result;
}

unsigned cuModuleUnload(Module *module) {
    for (int i = 0; i < module->kernels; i++) free(module->kernel[i]);
    free(module);
    return 0;
}

unsigned cuModuleGetFunction(Kernel **kernel, Module *module, const char *name) {
    for (int i = 0; i < module->kernels; i++)
        if (!strcmp(module->kernel[i]->name, name)) { *kernel = module->kernel[i]; return 0; }
    return NOT_FOUND;
}

/* Runs one thread until it waits for the others or ends; anything but zero ends the launch. */
static unsigned run(const Kernel *kernel, Thread *thread, uint8_t *shared) {
    for (;;) {
        const Instruction *now = &kernel->code[thread->at++];
        if (now->guard >= 0 && !thread->value[now->guard]) continue;
        uint64_t in[8];
        for (int i = 0; i < codes[now->code].operands; i++)
            in[i] = now->operand[i].is_name ? thread->value[now->operand[i].name] : now->operand[i].value;
        uint64_t *out = &thread->value[now->operand[0].name], result = 0;
        int vector = now->code == LD_GLOBAL_4 || now->code == ST_GLOBAL_4 ? 4 : 1;
        int stores = now->code == ST_GLOBAL || now->code == ST_GLOBAL_4 || now->code == ST_SHARED;
        uint64_t address = stores ? in[0] + in[1] : in[vector] + in[vector + 1];
        switch (now->code) {
        case LD_PARAM_32: case LD_PARAM_64: case CVTA: case MOV_32: case MOV_64: result = in[1]; break;
        case ADD_32: case ADD_64: result = in[1] + in[2]; break;
        case SUB_32: result = in[1] - in[2]; break;
        case MUL_32: case MUL_WIDE: result = (uint64_t)(uint32_t)in[1] * (uint32_t)in[2]; break;
        case MAD_32: result = in[1] * in[2] + in[3]; break;
        case SHL: result = in[2] > 31 ? 0 : in[1] << in[2]; break;
        case SHR: result = in[2] > 31 ? 0 : in[1] >> in[2]; break;
        case AND: result = in[1] & in[2]; break;
        case OR: result = in[1] | in[2]; break;
        case XOR: result = in[1] ^ in[2]; break;
        case SHF: result = (in[2] << 32 | in[1]) >> (in[3] & 31); break;
        case SETP_GE: result = in[1] >= in[2]; break;
        case SETP_NE: result = in[1] != in[2]; break;
        case LD_GLOBAL: case LD_GLOBAL_4:
            if (address % (4 * vector) || !allowed(current, address, 4 * vector)) return ILLEGAL_ADDRESS;
            for (int i = 0; i < vector; i++) thread->value[now->operand[i].name] = ((uint32_t *)address)[i];
            continue;
        case ST_GLOBAL: case ST_GLOBAL_4:
            if (address % (4 * vector) || !allowed(current, address, 4 * vector)) return ILLEGAL_ADDRESS;
            for (int i = 0; i < vector; i++) ((uint32_t *)address)[i] = (uint32_t)in[2 + i];
            continue;
        case LD_SHARED:
            if (address % 4 || address + 4 > (uint64_t)kernel->shared) return ILLEGAL_ADDRESS;
            result = *(uint32_t *)(shared + address);
            break;
        case ST_SHARED:
            if (address % 4 || address + 4 > (uint64_t)kernel->shared) return ILLEGAL_ADDRESS;
            *(uint32_t *)(shared + address) = (uint32_t)in[2];
            continue;
        case BRA: thread->at = now->target; continue;
        case BAR: thread->waits = 1; return 0;
        case RET: thread->at = -1; return 0;
        }
        *out = kernel->name_of[now->operand[0].name].wide ? result : (uint32_t)result;
    }
}

/* One block: every thread up to the next barrier, in turn, until all have ended. */
static unsigned block(const Kernel *kernel, Thread *threads, unsigned count) {
    uint8_t shared[SHARED];
    memset(shared, 0xa5, sizeof shared);
    for (;;) {
        unsigned ended = 0, waiting = 0;
        for (unsigned t = 0; t < count; t++) {
            if (threads[t].at >= 0) {
                unsigned result = run(kernel, &threads[t], shared);
                if (result) return result;
            }
            ended += threads[t].at < 0;
            waiting += threads[t].waits;
            threads[t].waits = 0;
        }
        if (ended == count) return 0;
        if (waiting != count) return INVALID; /* a barrier that not all reach */
    }
}

unsigned cuLaunchKernel(const Kernel *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared_bytes, void *stream, void **parameters, void **extra) {
    if (!current || !current->retained) return NO_CONTEXT;
    if (!grid_x || !grid_y || grid_z != 1 || !block_x || block_x > MAX_THREADS || block_y != 1 || block_z != 1 || shared_bytes || stream || extra)
        return INVALID;
    Thread *threads = malloc(sizeof(Thread) * block_x);
    unsigned result = 0;
    pthread_mutex_lock(&current->lock);
    for (unsigned y = 0; y < grid_y && !result; y++)
        for (unsigned x = 0; x < grid_x && !result; x++) {
            for (unsigned t = 0; t < block_x; t++) {
                /* what no instruction has written yet must not look like a zero */
                memset(&threads[t], 0xa5, sizeof threads[t]);
                threads[t].at = threads[t].waits = 0;
                uint64_t special[] = { t, block_x, x, y };
                memcpy(threads[t].value, special, sizeof special);
                for (int p = 0; p < kernel->parameters; p++) threads[t].value[kernel->parameter[p]] = *(uint64_t *)parameters[p];
                for (int n = 0; n < kernel->names; n++)
                    if (!strcmp(kernel->name_of[n].text, "strips")) threads[t].value[n] = 0;
            }
            result = block(kernel, threads, block_x);
        }
    pthread_mutex_unlock(&current->lock);
    free(threads);
    return result;
}
