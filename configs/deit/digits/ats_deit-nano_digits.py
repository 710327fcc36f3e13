_base_ = './deit-nano_digits_ftune.py'

model = dict(backbone=dict(reducer=dict(type='ATS', blocks=[3, 6, 9], tokens=[43, 29, 19])))
