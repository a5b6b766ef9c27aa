/* A stand-in for NVIDIA's management library, for tests. It serves the machine that the file `machine` beside the built library
   describes: lines `name = value`; `gpu` begins a card and `mig` an instance of the card before it. What a card does not state it
   does not support, as a real one. `fail = N` makes every question about a card end with that error. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_SUPPORTED = 3, INVALID = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, MAX_FACTS = 48, MAX_DEVICES = 96 };

typedef struct { char name[32]; char value[160]; } Fact;
typedef struct { int is_mig, parent, facts; Fact fact[MAX_FACTS]; } Device;
static Device machine, devices[MAX_DEVICES];
static int count;

static const char *find(const Device *device, const char *name) {
    for (int i = 0; i < device->facts; i++)
        if (!strcmp(device->fact[i].name, name)) return device->fact[i].value;
    return NULL;
}

static int code(const Device *device, const char *name) {
    const char *value = find(device, name);
    return value ? atoi(value) : 0;
}

static uint64_t number(const char *value) { return strtoull(value, NULL, 0); }

unsigned nvmlInit_v2(void) {
    Dl_info self;
    char path[4096], line[256];
    if (!dladdr((void *)nvmlInit_v2, &self)) return 999;
    snprintf(path, sizeof path, "%s", self.dli_fname);
    strcpy(strrchr(path, '/') + 1, "machine");
    FILE *file = fopen(path, "r");
    if (!file) return 999;
    Device *current = &machine;
    memset(&machine, 0, sizeof machine);
    count = 0;
    while (fgets(line, sizeof line, file)) {
        char name[32], value[160];
        if (sscanf(line, " %31[a-z0-9_.] = %159[^\n]", name, value) == 2 && current->facts < MAX_FACTS) {
            strcpy(current->fact[current->facts].name, name);
            strcpy(current->fact[current->facts++].value, value);
        } else if ((!strncmp(line, "gpu", 3) || !strncmp(line, "mig", 3)) && count < MAX_DEVICES) {
            int parent = count - 1;
            while (parent >= 0 && devices[parent].is_mig) parent--;
            current = &devices[count++];
            memset(current, 0, sizeof *current);
            current->is_mig = line[0] == 'm';
            current->parent = parent;
        }
    }
    fclose(file);
    return code(&machine, "init");
}

unsigned nvmlShutdown(void) { return 0; }

static unsigned write_text(const char *value, char *buffer, unsigned length) {
    if (!value) return NOT_SUPPORTED;
    if (!strcmp(value, "ENDLESS")) { memset(buffer, 'x', length); return 0; }
    if (strlen(value) >= length) return INSUFFICIENT_SIZE;
    strcpy(buffer, value);
    return 0;
}

unsigned nvmlSystemGetDriverVersion(char *buffer, unsigned length) {
    return write_text(find(&machine, "driver"), buffer, length);
}

unsigned nvmlSystemGetCudaDriverVersion_v2(int *version) {
    const char *value = find(&machine, "cuda");
    if (!value) return NOT_SUPPORTED;
    *version = atoi(value);
    return 0;
}

static int nth(unsigned index, int parent) {
    for (int i = 0; i < count; i++)
        if ((parent < 0 ? !devices[i].is_mig : devices[i].is_mig && devices[i].parent == parent) && index-- == 0) return i;
    return -1;
}

unsigned nvmlDeviceGetCount_v2(unsigned *found) {
    const char *claimed = find(&machine, "claimed_count");
    *found = 0;
    if (claimed) { *found = (unsigned)number(claimed); return 0; }
    for (int i = 0; i < count; i++) *found += !devices[i].is_mig;
    return 0;
}

unsigned nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **handle) {
    int found = nth(index, -1);
    if (found < 0) return INVALID;
    if (code(&devices[found], "fail_handle")) return code(&devices[found], "fail_handle");
    *handle = &devices[found];
    return 0;
}

unsigned nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **handle) {
    int found = nth(index, (int)(device - devices));
    if (found < 0) return NOT_FOUND;
    *handle = &devices[found];
    return 0;
}

static unsigned look(Device *device, const char *name, const char **value) {
    int failure = code(device, "fail");
    if (failure) return failure;
    *value = find(device, name);
    return *value ? 0 : NOT_SUPPORTED;
}

#define TEXT(function, name)                                              \
    unsigned function(Device *device, char *buffer, unsigned length) {    \
        const char *value;                                                \
        unsigned failure = look(device, name, &value);                    \
        return failure ? failure : write_text(value, buffer, length);     \
    }
#define NUMBER(function, type, name)                                      \
    unsigned function(Device *device, type *answer) {                     \
        const char *value;                                                \
        unsigned failure = look(device, name, &value);                    \
        if (!failure) *answer = (type)number(value);                      \
        return failure;                                                   \
    }
#define PAIR(function, name)                                              \
    unsigned function(Device *device, unsigned *a, unsigned *b) {         \
        const char *value;                                                \
        unsigned failure = look(device, name, &value);                    \
        if (!failure && sscanf(value, "%u %u", a, b) != 2) return 999;    \
        return failure;                                                   \
    }

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
NUMBER(nvmlDeviceGetMinorNumber, unsigned, "minor")
NUMBER(nvmlDeviceGetNumGpuCores, unsigned, "cores")
NUMBER(nvmlDeviceGetMemoryBusWidth, unsigned, "bus_width")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, "power_limit")
NUMBER(nvmlDeviceGetPowerUsage, unsigned, "power")
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "throttle")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, "pcie_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, "pcie_width")
NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned, "mig_slots")
NUMBER(nvmlDeviceGetGpuInstanceId, unsigned, "gpu_instance")
NUMBER(nvmlDeviceGetComputeInstanceId, unsigned, "compute_instance")
PAIR(nvmlDeviceGetCudaComputeCapability, "compute")
PAIR(nvmlDeviceGetEccMode, "ecc")
PAIR(nvmlDeviceGetMigMode, "mig_mode")
PAIR(nvmlDeviceGetPowerManagementLimitConstraints, "power_range")

unsigned nvmlDeviceGetMemoryInfo(Device *device, uint64_t *memory) {
    const char *value, *used = NULL;
    unsigned failure = look(device, "memory_mib", &value);
    if (failure) return failure;
    look(device, "memory_used_mib", &used);
    memory[0] = number(value) << 20;
    memory[2] = used ? number(used) << 20 : 0;
    memory[1] = memory[0] - memory[2];
    return 0;
}

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char text[32]; } Pci;

unsigned nvmlDeviceGetPciInfo_v3(Device *device, Pci *pci) {
    const char *value, *id;
    unsigned failure = look(device, "pci", &value);
    if (failure) return failure;
    if (sscanf(value, "%x:%x:%x.0", &pci->domain, &pci->bus, &pci->device) != 3) return 999;
    if (!look(device, "pci_id", &id)) pci->id = (unsigned)number(id) << 16 | 0x10de;
    return 0;
}

unsigned nvmlDeviceGetUtilizationRates(Device *device, unsigned *rates) {
    const char *value;
    unsigned failure = look(device, "busy", &value);
    if (!failure) rates[0] = rates[1] = (unsigned)number(value);
    return failure;
}

unsigned nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *celsius) {
    const char *value;
    unsigned failure = look(device, "temperature", &value);
    if (sensor) return INVALID;
    if (!failure) *celsius = (unsigned)number(value);
    return failure;
}

unsigned nvmlDeviceGetTotalEccErrors(Device *device, unsigned kind, unsigned counter, unsigned long long *errors) {
    const char *value;
    unsigned failure = look(device, "ecc_errors", &value);
    if (kind != 1 || counter != 0) return INVALID;
    if (!failure) *errors = number(value);
    return failure;
}

unsigned nvmlDeviceGetNvLinkState(Device *device, unsigned link, unsigned *up) {
    const char *value;
    unsigned failure = look(device, "nvlinks", &value);
    if (failure) return failure;
    if (link >= 18) return INVALID;
    *up = link < number(value);
    return 0;
}

unsigned nvmlDeviceGetP2PStatus(Device *a, Device *b, unsigned kind, unsigned *status) {
    const char *first, *second;
    if (kind != 2) return INVALID;
    if (look(a, "nvlinks", &first) || look(b, "nvlinks", &second)) return NOT_SUPPORTED;
    *status = number(first) && number(second) ? 0 : 6;
    return 0;
}

unsigned nvmlDeviceGetTopologyCommonAncestor(Device *a, Device *b, unsigned *level) {
    const char *first, *second;
    if (look(a, "switch", &first) || look(b, "switch", &second)) return NOT_SUPPORTED;
    *level = strcmp(first, second) ? 50 : 10;
    return 0;
}

unsigned nvmlDeviceGetAttributes_v2(Device *device, unsigned *attributes) {
    const char *value;
    unsigned failure = look(device, "multiprocessors", &value);
    if (!failure) attributes[0] = (unsigned)number(value);
    return failure;
}

typedef struct { unsigned pid; uint64_t memory; unsigned gpu_instance, compute_instance; } Process;

/* `processes` is how many there are: more than fit is an error that tells how many, unless `boast` is stated. */
unsigned nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *room, Process *processes) {
    const char *value, *boast;
    unsigned failure = look(device, "processes", &value);
    if (failure) return failure;
    unsigned running = (unsigned)number(value), fit = running < *room ? running : *room;
    for (unsigned i = 0; i < fit; i++) processes[i] = (Process){100 + i, i ? UINT64_MAX : 512ull << 20, 0, 0};
    unsigned had = *room;
    *room = running;
    return running > had && look(device, "boast", &boast) ? INSUFFICIENT_SIZE : 0;
}
