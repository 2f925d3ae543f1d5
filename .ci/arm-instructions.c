/* A plugin of qemu-user that counts the instructions a program executes and tells the number when it ends.
 *
 * Only those functions that every version of the plugin interface has (QEMU, docs/devel/tcg-plugins); their prototypes
 * stand here because Debian's package of version 7.2 has no header. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb; /* a block of translated code */
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags,
                                          void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

EXPORT int qemu_plugin_version = 1;

static uint64_t instructions;

static void executed(unsigned thread, void *count)
{
    (void)thread;
    instructions += (uintptr_t)count;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    void *count = (void *)(uintptr_t)qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS, count);
}

static void ended(plugin_id id, void *unused)
{
    (void)id, (void)unused;
    fprintf(stderr, "%" PRIu64 " instructions\n", instructions);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
