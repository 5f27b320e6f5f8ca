"""The master patient index: whose record is this.

Every source (an assigning authority: a hospital, an HIS, a modality without one) keeps its own record of a
patient; links make persons of them. Nothing here changes what a source said.
"""
